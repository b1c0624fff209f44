"""respx, both ways that it can patch: httpcore's pools (its default) and httpx's transports."""

import pytest
import respx
from answers import URL


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_the_mock_answers(question, using):
    head = {"content-type": question.content_type}
    with respx.mock(using=using) as mock:
        mock.post(f"{URL}/v1/chat/completions").respond(text=question.body, headers=head)
        assert question.ask() == "from the mock"
