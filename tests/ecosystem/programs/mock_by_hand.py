"""What people patch themselves: httpx's MockTransport, and `Client.send`."""

import httpx
from answers import ANSWER, atext_of, new_async_client, new_client, text_of


def answer(_request):
    return httpx.Response(200, json=ANSWER)


def test_a_mock_transport_answers():
    client = new_client(http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    assert text_of(client) == "from the mock"


async def test_a_mock_transport_answers_the_async_client():
    client = new_async_client(http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    assert await atext_of(client) == "from the mock"


def test_a_patched_send_answers(monkeypatch):
    monkeypatch.setattr(httpx.Client, "send", lambda _client, request, **_: answer(request))
    assert text_of(new_client()) == "from the mock"


async def test_a_patched_send_answers_the_async_client(monkeypatch):
    async def send(_client, request, **_options):
        return answer(request)

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    assert await atext_of(new_async_client()) == "from the mock"


def test_a_patched_transport_answers(monkeypatch):
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    assert text_of(new_client()) == "from the mock"
