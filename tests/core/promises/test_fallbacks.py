"""Promises 15 and 16: another model answers when one can't, in order, and never half-way."""

import pytest

from lunar_core import (
    APIConnectionError,
    APIStreamError,
    BadRequestError,
    ConfigurationError,
    InternalServerError,
    LunarError,
    RateLimitError,
)
from tests.faults_steps import (
    DONE,
    chunk,
    close,
    completion,
    hang,
    patience,
    reply,
    reset,
    spoken,
    sse,
)

QUESTION = {"messages": [{"role": "user", "content": "Hello!"}]}
AT_ONCE = ["retry-after-ms: 1"]

PASSING = {
    "429": reply(429, headers=AT_ONCE),
    "500": reply(500),
    "503": reply(503),
    "reset": reset,
    "closed": close,
    "silence": hang,
    "not HTTP": [b"junk\r\n\r\n", close],
    "HTML": reply(200, "<html>"),
    "no choices": reply(json={"id": "x"}),
    "a detail in a 200": reply(json={"detail": "All providers failed"}),
}
PASSING_IN_STREAMS = PASSING | {
    "an error event first": sse({"error": {"message": "overloaded"}}),
    "a detail first": sse({"detail": "overloaded"}),
    "an error event after the role": sse(
        chunk(choices=[{"index": 0, "delta": {"role": "assistant"}}]), {"error": "overloaded"}
    ),
    "a malformed chunk first": sse("data: {\n\n"),
    "no events": sse(),
    "only done": sse(DONE),
    "reset before text": sse(": ping\n\n", reset),
    "silence before text": sse(": ping\n\n", hang),
}


@pytest.mark.parametrize("given", ["to the client", "to the call"])
def test_15_models_are_asked_in_order_and_the_answer_names_its_own(
    given, connect, way, fault_server
):
    chain = ["second", "third"]
    fault_server.script(reply(503), reply(500), way.answer("Hello!", model="third"))
    client = connect(fault_server, **({"fallbacks": chain} if given == "to the client" else {}))
    params = {"fallbacks": chain} if given == "to the call" else {}
    answer = way.ask(client, model="first", **params)
    assert answer.choices[0].message.content == "Hello!"
    assert fault_server.models == ["first", "second", "third"]
    assert answer.call.requested_model == "first"
    assert [attempt.model for attempt in answer.call.attempts] == fault_server.models
    assert [attempt.status_code for attempt in answer.call.attempts] == [503, 500, 200]


def test_15_fallbacks_are_never_sent_and_nothing_else_changes(connect, way, fault_server):
    fault_server.script(reply(503), way.answer())
    way.ask(connect(fault_server), model="first", fallbacks=["second"], temperature=0.5)
    first, second = fault_server.bodies
    assert "fallbacks" not in first | second
    assert first | {"model": "second"} == second


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_15_every_passing_fault_of_a_plain_call_goes_to_the_next_model(
    fault, connect, fault_server
):
    fault_server.script(fault, reply(json=completion("Hello!")))
    client = connect(fault_server, timeout=patience(fault))
    answer = client.chat.completions.create(**QUESTION, model="first", fallbacks=["second"])
    assert answer.choices[0].message.content == "Hello!"
    assert fault_server.models == ["first", "second"]


@pytest.mark.parametrize("fault", PASSING_IN_STREAMS.values(), ids=PASSING_IN_STREAMS)
def test_15_every_fault_of_a_stream_before_its_first_text_goes_to_the_next_model(
    fault, connect, fault_server
):
    fault_server.script(fault, sse(*spoken("Hel", "lo!")))
    stream = connect(fault_server, timeout=patience(fault)).chat.completions.create(
        **QUESTION, model="first", fallbacks=["second"], stream=True
    )
    assert "".join(part.choices[0].delta.content or "" for part in stream) == "Hello!"
    assert fault_server.models == ["first", "second"]


def test_15_text_completions_fall_back_too(connect, fault_server):
    text = {"object": "text_completion", "choices": [{"index": 0, "text": "Hi"}]}
    fault_server.script(reply(503), reply(json=text))
    client = connect(fault_server)
    answer = client.completions.create(model="first", prompt="Say hi", fallbacks=["second"])
    assert (answer.choices[0].text, fault_server.models) == ("Hi", ["first", "second"])


@pytest.mark.parametrize("max_retries", [0, 2])
def test_15_each_model_has_its_retries_and_no_more(max_retries, connect, way, fault_server):
    fault_server.always(reply(429, json={"detail": "slow down"}, headers=AT_ONCE))
    client = connect(fault_server, max_retries=max_retries)
    with pytest.raises(RateLimitError, match="slow down") as caught:
        way.ask(client, model="a", fallbacks=["b", "c"])
    expected = [model for model in "abc" for _ in range(max_retries + 1)]
    assert fault_server.models == expected
    assert [attempt.model for attempt in caught.value.attempts] == expected


def test_15_the_last_models_own_error_is_raised_and_tells_of_all_attempts(
    connect, way, fault_server
):
    fault_server.script(reply(503), reset, reply(429, headers=AT_ONCE))
    with pytest.raises(RateLimitError) as caught:
        way.ask(connect(fault_server), model="a", fallbacks=["b", "c"])
    attempts = caught.value.attempts
    assert [(attempt.model, attempt.status_code) for attempt in attempts] == [
        ("a", 503),
        ("b", None),
        ("c", 429),
    ]
    assert all(attempt.error for attempt in attempts)


def test_15_a_long_wait_asked_for_by_one_model_goes_to_the_next_instead(connect, way, fault_server):
    fault_server.script(reply(429, headers=["retry-after: 30"]), way.answer())
    way.ask(connect(fault_server, max_retries=2), model="a", fallbacks=["b"])
    assert fault_server.models == ["a", "b"]


def test_15_an_empty_list_turns_the_clients_fallbacks_off(connect, way, fault_server):
    fault_server.always(reply(503))
    with pytest.raises(InternalServerError):
        way.ask(connect(fault_server, fallbacks=["b"]), model="a", fallbacks=[])
    assert fault_server.models == ["a"]


@pytest.mark.parametrize("fallbacks", ["gpt-4o", [""], [3], 3])
def test_15_what_is_no_list_of_models_is_refused_before_anything_is_sent(
    fallbacks, connect, way, fault_server
):
    with pytest.raises(ConfigurationError, match="fallbacks"):
        way.ask(connect(fault_server), model="a", fallbacks=fallbacks)
    assert not fault_server.requests


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_16_a_request_that_is_at_fault_is_not_put_to_another_model(
    status, connect, way, fault_server
):
    fault_server.always(reply(status, json={"detail": "no"}))
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server, max_retries=2), model="a", fallbacks=["b"])
    assert caught.value.status_code == status
    assert fault_server.models == ["a"]


@pytest.mark.parametrize("status", [408, 409])
def test_16_a_timeout_or_conflict_is_retried_but_not_put_to_another_model(
    status, connect, way, fault_server
):
    fault_server.always(reply(status, headers=AT_ONCE))
    with pytest.raises(LunarError):
        way.ask(connect(fault_server, max_retries=1), model="a", fallbacks=["b"])
    assert fault_server.models == ["a", "a"]


def test_16_a_fault_of_the_request_found_by_the_second_model_ends_the_call(
    connect, way, fault_server
):
    fault_server.script(reply(503), reply(400, json={"detail": "bad field"}))
    with pytest.raises(BadRequestError, match="bad field"):
        way.ask(connect(fault_server), model="a", fallbacks=["b", "c"])
    assert fault_server.models == ["a", "b"]


FIRST_WORDS = {
    "text": {"content": "Hel"},
    "reasoning": {"reasoning_content": "The user greets."},
    "a tool call": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]},
}


@pytest.mark.parametrize("delta", FIRST_WORDS.values(), ids=FIRST_WORDS)
@pytest.mark.parametrize(
    "fault",
    [reset, close, {"error": "overloaded"}, "data: {\n\n"],
    ids=["reset", "closed", "error", "malformed"],
)
def test_16_two_models_are_never_spliced_into_one_stream(fault, delta, connect, fault_server):
    said = chunk(choices=[{"index": 0, "delta": delta}])
    fault_server.script(sse(said, fault))
    fault_server.always(sse(*spoken("Hello!")))
    stream = connect(fault_server, max_retries=2).chat.completions.create(
        **QUESTION, model="a", fallbacks=["b"], stream=True
    )
    seen = []
    with pytest.raises((APIStreamError, APIConnectionError)):  # noqa: PT012  # it may fail anywhere in here
        for part in stream:
            seen += part.choices
    assert len(seen) == 1
    assert fault_server.models == ["a"]


def test_16_a_finish_reason_without_text_is_an_answer(connect, fault_server):
    fault_server.script(sse(chunk(finish="content_filter"), DONE))
    stream = connect(fault_server).chat.completions.create(
        **QUESTION, model="a", fallbacks=["b"], stream=True
    )
    assert [part.choices[0].finish_reason for part in stream] == ["content_filter"]
    assert fault_server.models == ["a"]
