"""A gateway's status is not its provider's: what a 502 says of the provider decides who is asked again."""

import pytest

from lunar_core import (
    AnswerFailedError,
    InternalServerError,
    LunarError,
    RateLimitError,
    UpstreamFailure,
)
from lunar_core.wire.upstream import read_upstream
from tests.faults_steps import reply, sse

FAILED = "All providers failed for model 'm': openai error: litellm."
ROUTED = "Model execution failed: openai error: litellm."
OPENAI = "OpenAIException - "

# The words → what they tell of, and how many requests a call of one model with two fallbacks may make of it.
TABLE = {
    "too long": (
        "ContextWindowExceededError: litellm.BadRequestError: This model's maximum context length is 8 tokens",
        ("context_length", 400),
        3,
    ),
    "too long, without the class": (
        f"BadRequestError: {OPENAI}prompt is too long: 9 tokens > 8 maximum",
        ("context_length", 400),
        3,
    ),
    "a policy": (
        "ContentPolicyViolationError: litellm.BadRequestError: rejected by our safety system",
        ("content_policy", 400),
        3,
    ),
    "a bad request": (f"BadRequestError: {OPENAI}Invalid value", ("bad_request", 400), 1),
    "a bad image": (f"BadRequestError: {OPENAI}Invalid image_url", ("bad_image", 400), 1),
    "its key": (f"AuthenticationError: {OPENAI}Incorrect API key", ("authentication", 401), 3),
    "its permission": (f"PermissionDeniedError: {OPENAI}no", ("permission", 403), 3),
    "no such model": (f"NotFoundError: {OPENAI}no such model", ("not_found", 404), 3),
    "its rate limit": (f"RateLimitError: {OPENAI}Rate limit, tokens", ("rate_limit", 429), 3),
    "a timeout": ("Timeout: timed out", ("timeout", 504), 6),
    "a failure": (f"InternalServerError: {OPENAI}died", ("unavailable", 503), 6),
    "something else": ("Whatever: who knows", ("unavailable", 503), 6),
}
CASES = pytest.mark.parametrize(("words", "told", "requests"), TABLE.values(), ids=TABLE)


@CASES
@pytest.mark.parametrize("before", [FAILED, ROUTED], ids=["providers", "router"])
def test_the_words_tell_what_the_provider_said(before, words, told, requests):
    assert read_upstream(before + words) == UpstreamFailure(*told)


@pytest.mark.parametrize(
    "reason", ["", "overloaded", "BadRequestError: no", "it says All providers failed"]
)
def test_other_words_tell_of_no_provider(reason):
    assert read_upstream(reason) is None


@CASES
def test_a_failure_reaches_the_provider_as_often_as_it_may_help(
    words, told, requests, connect, way, fault_server, waits
):
    fault_server.always(reply(502, json={"detail": FAILED + words}))
    with pytest.raises(LunarError) as raised:
        way.ask(connect(fault_server, max_retries=2, fallbacks=["a", "b"]))
    assert raised.value.upstream == UpstreamFailure(*told)
    assert len(fault_server.requests) == len(raised.value.attempts) == requests
    kind = RateLimitError if told[0] == "rate_limit" else InternalServerError
    assert type(raised.value) is kind
    assert raised.value.status_code == 502


@CASES
def test_so_does_one_that_is_the_first_event_of_a_stream(
    words, told, requests, connect, fault_server, waits
):
    fault_server.always(sse({"error": {"message": FAILED + words, "type": "error"}}))
    client = connect(fault_server, max_retries=2, fallbacks=["a", "b"])
    with pytest.raises(LunarError) as raised:
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "p"}], stream=True
        )
    assert raised.value.upstream == UpstreamFailure(*told)
    assert len(fault_server.requests) == requests
    kind = RateLimitError if told[0] == "rate_limit" else AnswerFailedError
    assert type(raised.value) is kind


def test_a_fallback_answers_what_was_too_long_at_once(connect, way, fault_server):
    words = TABLE["too long"][0]
    fault_server.script(reply(502, json={"detail": FAILED + words}), way.answer("Hello!"))
    answer = way.ask(connect(fault_server, max_retries=2, fallbacks=["longer"]))
    assert [attempt.model for attempt in answer.call.attempts] == ["gpt-4o-mini", "longer"]


@pytest.mark.parametrize(("status", "requests"), [(400, 1), (404, 1), (502, 9)])
def test_other_statuses_and_other_words_are_as_before(
    status, requests, connect, way, fault_server, waits
):
    words = "bad gateway" if status == 502 else FAILED + TABLE["too long"][0]
    fault_server.always(reply(status, json={"detail": words}))
    with pytest.raises(LunarError) as raised:
        way.ask(connect(fault_server, max_retries=2, fallbacks=["a", "b"]))
    assert raised.value.upstream is None
    assert len(fault_server.requests) == requests
