"""What people patch themselves: httpx's MockTransport, `Client.send`, and the transports below it."""

import httpx
from answers import SETTINGS

from lunar_core import Lunar


def new_answer(question):
    """A function that answers requests."""
    head = {"content-type": question.content_type}
    return lambda _request: httpx.Response(200, content=question.body, headers=head)


def patch(monkeypatch, owner, name, answer):
    """Put a method that answers in place of one that takes a request and whatever else."""

    async def answer_async(_self, request, **_options):
        return answer(request)

    def answer_sync(_self, request, **_options):
        return answer(request)

    is_async = owner in {httpx.AsyncClient, httpx.AsyncHTTPTransport}
    monkeypatch.setattr(owner, name, answer_async if is_async else answer_sync)


def test_a_mock_transport_answers(question):
    client = httpx.Client if isinstance(question.client, Lunar) else httpx.AsyncClient
    transport = httpx.MockTransport(new_answer(question))
    question.client = type(question.client)(**SETTINGS, http_client=client(transport=transport))
    assert question.ask() == "from the mock"


def test_a_patched_send_answers(question, monkeypatch):
    answer = new_answer(question)
    patch(monkeypatch, httpx.Client, "send", answer)
    patch(monkeypatch, httpx.AsyncClient, "send", answer)
    assert question.ask() == "from the mock"


def test_a_patched_transport_answers(question, monkeypatch):
    answer = new_answer(question)
    patch(monkeypatch, httpx.HTTPTransport, "handle_request", answer)
    patch(monkeypatch, httpx.AsyncHTTPTransport, "handle_async_request", answer)
    assert question.ask() == "from the mock"
