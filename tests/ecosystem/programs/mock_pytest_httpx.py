"""pytest-httpx, whose fixture answers for every transport of httpx."""

from answers import ANSWER, atext_of, new_async_client, new_client, text_of


def test_the_sync_client_is_answered_by_the_mock(httpx_mock):
    httpx_mock.add_response(json=ANSWER)
    assert text_of(new_client()) == "from the mock"
    assert httpx_mock.get_request().headers["x-api-key"]


async def test_the_async_client_is_answered_by_the_mock(httpx_mock):
    httpx_mock.add_response(json=ANSWER)
    assert await atext_of(new_async_client()) == "from the mock"
