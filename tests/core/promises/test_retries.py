"""Promises 4 to 8: what may be tried again is, as often as was said, after the right wait."""

import email.utils
import time

import pytest

from lunar_core import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    LunarError,
    RateLimitError,
)
from lunar_core.client import attempts
from tests.faults import nobody_listens
from tests.faults_steps import (
    chunk,
    close,
    completion,
    hang,
    head,
    patience,
    reply,
    reset,
    spoken,
    sse,
)

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
AT_ONCE = ["retry-after-ms: 1"]
TRANSIENT = (408, 409, 429, 500, 502, 503, 504, 529)
PASSING = {
    **{str(status): reply(status, headers=AT_ONCE) for status in TRANSIENT},
    "reset": reset,
    "closed": close,
    "not HTTP": [b"junk\r\n\r\n", close],
    "cut in the head": [b"HTTP/1.1 200 O", close],
    "cut in the body": [head(200, ["content-length: 99"]), b"{", close],
    "silence": hang,
}
LASTING = (301, 308, 400, 401, 402, 403, 404, 405, 410, 413, 418, 422, 431, 451)
BEFORE_TEXT = {
    "reset after the head": sse(reset),
    "closed after the head": sse(close),
    "reset after a comment": sse(": ping\n\n", reset),
    "reset after the role": sse(chunk(choices=[{"delta": {"role": "assistant"}}]), reset),
    "silence after the head": sse(hang),
    "silence after empty text": sse(chunk(""), hang),
}


@pytest.mark.parametrize("max_retries", [1])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_4_a_passing_fault_is_met_with_max_retries_more_attempts(
    fault, max_retries, connect, way, fault_server, waits
):
    fault_server.always(fault)
    with pytest.raises((APIStatusError, APIConnectionError)) as caught:
        way.ask(connect(fault_server, max_retries=max_retries, timeout=patience(fault)))
    assert len(fault_server.requests) == max_retries + 1
    assert len(caught.value.attempts) == max_retries + 1


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_4_the_last_attempt_may_still_succeed(fault, connect, way, fault_server, waits):
    fault_server.script(fault, fault, way.answer("Hello"))
    answer = way.ask(connect(fault_server, max_retries=2, timeout=patience(fault)))
    assert answer.choices[0].message.content == "Hello"
    assert len(answer.call.attempts) == len(fault_server.requests) == 3
    *failed, succeeded = answer.call.attempts
    assert all(attempt.error for attempt in failed)
    assert (succeeded.error, succeeded.status_code) == (None, 200)


def test_4_each_attempt_has_the_name_that_the_service_gave_it(connect, way, fault_server, waits):
    named = [reply(503, headers=[*AT_ONCE, f"x-request-id: req_{n}"]) for n in range(3)]
    fault_server.script(*named)
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert [attempt.request_id for attempt in caught.value.attempts] == ["req_0", "req_1", "req_2"]


@pytest.mark.parametrize("fault", BEFORE_TEXT.values(), ids=BEFORE_TEXT)
def test_4_so_are_faults_of_a_stream_before_its_first_text(fault, connect, fault_server, waits):
    fault_server.script(fault, fault, sse(*spoken("Hel", "lo")))
    client = connect(fault_server, max_retries=2, timeout=patience(fault))
    stream = client.chat.completions.create(**QUESTION, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in stream) == "Hello"
    fault_server.always(fault)
    with pytest.raises(LunarError):
        list(client.chat.completions.create(**QUESTION, stream=True, max_retries=1))
    assert len(fault_server.requests) == 3 + 2


def test_4_a_refused_connection_is_tried_as_often(connect, way, waits):
    with pytest.raises(APIConnectionError) as caught:
        way.ask(connect(nobody_listens(), max_retries=2))
    assert len(caught.value.attempts) == 3
    assert len(waits) == 2


@pytest.mark.parametrize("status", LASTING)
def test_4_a_fault_of_the_request_is_never_tried_again(status, connect, way, fault_server):
    fault_server.always(reply(status, json={"retry_after": 0.01}, headers=AT_ONCE))
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server, max_retries=3))
    assert caught.value.status_code == status
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"{", b"[]"])
def test_4_nor_is_a_200_that_was_paid_for(body, connect, fault_server):
    fault_server.always(reply(200, body))
    with pytest.raises(LunarError):
        connect(fault_server, max_retries=3).chat.completions.create(**QUESTION)
    assert len(fault_server.requests) == 1


def test_4_two_retries_are_the_default_and_a_call_may_say_otherwise(
    connect, way, fault_server, waits
):
    fault_server.always(reply(503))
    client = connect(fault_server, max_retries=2)
    for options, requests in (({}, 3), ({"max_retries": 0}, 1), ({"max_retries": 4}, 5)):
        fault_server.requests.clear()
        with pytest.raises(LunarError):
            way.ask(client, **options)
        assert len(fault_server.requests) == requests


@pytest.mark.parametrize("max_retries", [-1, 1.5, "2", True, None])
def test_4_a_number_of_retries_that_is_none_is_refused(max_retries, connect, fault_server):
    with pytest.raises(ConfigurationError, match="max_retries"):
        connect(fault_server, max_retries=max_retries)


def test_5_waits_double_from_half_a_second_to_eight_and_differ(connect, way, fault_server, waits):
    fault_server.always(reply(503))
    for _client in range(8):
        with pytest.raises(LunarError):
            way.ask(connect(fault_server, max_retries=7))
    rounds = [waits[start : start + 7] for start in range(0, 56, 7)]
    for number, same_attempt in enumerate(zip(*rounds, strict=True)):
        most = min(0.5 * 2**number, 8)
        assert all(0 <= wait <= most for wait in same_attempt)
        assert max(same_attempt) - min(same_attempt) >= 0.08 * most
    assert max(waits) > 2  # they do grow


def test_5_the_wait_is_really_waited(connect, way, fault_server, monkeypatch):
    monkeypatch.setattr(attempts, "backoff", lambda _retry, _jitter: 0.2)
    fault_server.script(reply(503), way.answer())
    way.ask(connect(fault_server, max_retries=1))
    first, second = fault_server.requests
    assert 0.2 <= second.at - first.at < 5


SOON = {
    "milliseconds": (["retry-after-ms: 150"], {}),
    "seconds": (["retry-after: 0.15"], {}),
    "the body": ([], {"retry_after": 0.15}),
    "the body, in text": ([], {"retry_after": "0.15"}),
    "the detail": ([], {"detail": {"message": "slow down", "retry_after": 0.15}}),
    "the detail in seconds": ([], {"detail": {"retry_after_s": 0.15}}),
    "the error": ([], {"error": {"message": "slow down", "retry_after": 0.15}}),
    "milliseconds over seconds": (["retry-after: 30", "retry-after-ms: 150"], {"retry_after": 30}),
    "a header over the body": (["retry-after: 0.15"], {"retry_after": 30}),
}


@pytest.mark.parametrize(("headers", "body"), SOON.values(), ids=SOON)
def test_6_a_wait_that_the_server_asks_for_is_obeyed(
    headers, body, connect, way, fault_server, waits
):
    fault_server.script(reply(429, headers=headers, json=body), way.answer())
    way.ask(connect(fault_server, max_retries=1))
    first, second = fault_server.requests
    assert 0.15 <= second.at - first.at < 5


def test_6_so_is_one_given_as_a_date(connect, fault_server):
    date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now
    fault_server.script(reply(503, headers=[f"retry-after: {date}"]), reply(json=completion()))
    connect(fault_server, max_retries=1).chat.completions.create(**QUESTION)
    first, second = fault_server.requests
    assert 0.9 <= second.at - first.at < 10


def test_6_a_date_that_has_passed_is_no_wait_at_all(connect, way, fault_server):
    fault_server.script(
        reply(503, headers=["retry-after: Wed, 21 Oct 2015 07:28:00 GMT"]), way.answer()
    )
    way.ask(connect(fault_server, max_retries=1))
    first, second = fault_server.requests
    assert second.at - first.at < 5


LATE = {
    "seconds": (["retry-after: 61"], {}, 61),
    "milliseconds": (["retry-after-ms: 61000"], {}, 61),
    "the body": ([], {"retry_after": 3600}, 3600),
    "the detail": ([], {"detail": {"retry_after": 61}}, 61),
    "seconds without end": (["retry-after: 99999999999"], {}, 99999999999),
}


@pytest.mark.parametrize(("headers", "body", "seconds"), LATE.values(), ids=LATE)
def test_6_a_wait_beyond_a_minute_is_the_callers_to_decide(
    headers, body, seconds, connect, way, fault_server
):
    fault_server.always(reply(429, headers=headers, json=body))
    with pytest.raises(RateLimitError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert caught.value.retry_after == seconds
    assert len(fault_server.requests) == 1


def test_6_so_is_a_date_beyond_a_minute(connect, way, fault_server):
    date = email.utils.formatdate(time.time() + 3_600, usegmt=True)
    fault_server.always(reply(429, headers=[f"retry-after: {date}"]))
    with pytest.raises(RateLimitError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert 3_590 < caught.value.retry_after <= 3_600
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    "value", ["soon", "nan", "inf", "-5", "", "1e999", "0x10", "12:30", "Wed, 99 Xyz 2015"]
)
def test_6_a_header_that_says_nothing_legible_is_ignored(value, connect, way, fault_server, waits):
    fault_server.script(reply(429, headers=[f"retry-after: {value}"]), reply(429))
    fault_server.always(reply(429, headers=[f"retry-after-ms: {value}"]))
    with pytest.raises(RateLimitError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert caught.value.retry_after is None
    assert len(fault_server.requests) == 3
    assert all(wait <= 1 for wait in waits)


@pytest.mark.parametrize("value", ["null", '"x"', "[]", "{}", "true", "-1", "NaN", "1e999"])
def test_6_so_is_a_body_that_says_nothing_legible(value, connect, way, fault_server, waits):
    fault_server.always(reply(429, f'{{"retry_after": {value}}}'))
    with pytest.raises(RateLimitError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert caught.value.retry_after is None
    assert len(fault_server.requests) == 3
    assert all(wait <= 1 for wait in waits)


def test_7_all_attempts_carry_the_same_body_byte_for_byte(connect, way, fault_server, waits):
    fault_server.script(reset, reply(503), hang, close, way.answer())
    way.ask(
        connect(fault_server, max_retries=4, timeout=0.5),
        messages=[{"role": "user", "content": "Straße \u2028 🌙 \x00 "}],
        temperature=0.1 + 0.2,
        stop=["\n", "é"],
        extra_body={"z": 1, "a": {"y": None, "b": [1.0, 2]}},
    )
    assert len(fault_server.requests) == 5
    assert len({request.body for request in fault_server.requests}) == 1


def test_7_a_message_that_is_changed_between_attempts_is_not_sent_changed(
    connect, way, fault_server, waits
):
    messages = [{"role": "user", "content": "Hello!"}]

    def change(request):
        messages[0]["content"] = "Bye!"
        return reply(503)

    fault_server.decide(change)
    with pytest.raises(LunarError):
        way.ask(connect(fault_server, max_retries=1), messages=messages)
    first, second = fault_server.requests
    assert first.body == second.body


@pytest.mark.parametrize(
    "fault",
    [reset, close, hang, {"error": {"message": "overloaded", "code": 503}}, "data: {\n\n"],
    ids=["reset", "closed", "silence", "an error event", "a malformed chunk"],
)
def test_8_nothing_is_replayed_after_the_first_text(fault, connect, fault_server):
    fault_server.script(sse(chunk("Hel"), fault))
    fault_server.always(sse(*spoken("Hello")))
    client = connect(fault_server, max_retries=3, timeout=patience(fault))
    text = ""
    with pytest.raises(LunarError):  # noqa: PT012  # it may fail anywhere in here
        for part in client.chat.completions.create(**QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert text == "Hel"
    assert len(fault_server.requests) == 1
