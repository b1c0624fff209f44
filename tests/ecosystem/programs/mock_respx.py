"""respx, both ways that it can patch: httpcore's pools (its default) and httpx's transports."""

import pytest
import respx
from answers import ANSWER, URL, atext_of, new_async_client, new_client, text_of


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_the_sync_client_is_answered_by_the_mock(using):
    with respx.mock(using=using) as mock:
        mock.post(f"{URL}/v1/chat/completions").respond(json=ANSWER)
        assert text_of(new_client()) == "from the mock"


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
async def test_the_async_client_is_answered_by_the_mock(using):
    with respx.mock(using=using) as mock:
        mock.post(f"{URL}/v1/chat/completions").respond(json=ANSWER)
        assert await atext_of(new_async_client()) == "from the mock"


def test_a_client_that_was_made_before_is_answered_by_the_mock_too():
    client = new_client()
    with respx.mock() as mock:
        mock.post(f"{URL}/v1/chat/completions").respond(json=ANSWER)
        assert text_of(client) == "from the mock"
