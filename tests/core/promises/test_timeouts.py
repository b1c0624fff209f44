"""Promises 9 and 10: nothing takes longer than it was allowed to."""

import time
from contextlib import contextmanager

import httpx
import pytest

from lunar_core import APITimeoutError, InternalServerError, LunarError, Timeout
from tests.faults import nobody_accepts
from tests.faults_steps import body_of, chunk, deaf, drip, hang, head, reply, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
LONG_PROMPT = [{"role": "user", "content": "x" * (24 << 20)}]  # more than any socket buffers


@contextmanager
def within(seconds):
    """One second more than was allowed is the promise."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + 1


@pytest.fixture
def timed(way, connect):
    """Ask with a timeout for the call, over a client's longer one."""

    def ask(server, timeout, **params):
        return way.ask(connect(server, timeout=60), timeout=timeout, **params)

    return ask


def test_9_connecting_takes_no_longer_than_the_timeout(timed):
    with nobody_accepts() as origin, within(0.2), pytest.raises(APITimeoutError):
        timed(origin, 0.2)


def test_9_waiting_for_the_answer_takes_no_longer_than_the_timeout(timed, fault_server):
    fault_server.script(hang)
    with within(0.2), pytest.raises(APITimeoutError):
        timed(fault_server, 0.2)


def test_9_so_does_waiting_in_the_middle_of_an_answer(timed, fault_server):
    fault_server.script([head(200, ["content-length: 99"]), b'{"id":', hang])
    with within(0.2), pytest.raises(APITimeoutError):
        timed(fault_server, 0.2)


def test_9_sending_the_request_takes_no_longer_than_the_timeout(timed, fault_server):
    fault_server.greet(deaf)
    with within(0.3), pytest.raises(APITimeoutError):
        timed(fault_server, 0.3, messages=LONG_PROMPT)


def test_9_waiting_for_a_connection_takes_no_longer_than_the_timeout(connect, way, fault_server):
    fault_server.script(sse(chunk("Hel"), hang))
    client = connect(fault_server, max_connections=1)
    with client.chat.completions.create(**QUESTION, stream=True) as stream:
        chunks = iter(stream)
        assert next(chunks).choices[0].delta.content == "Hel"
        with within(0.2), pytest.raises(APITimeoutError):
            way.ask(client, timeout=0.2)
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    "timeout",
    [
        0.2,
        (5, 0.2),
        Timeout(read=0.2),
        httpx.Timeout(5, read=0.2),
    ],
    ids=["seconds", "connect and read", "Timeout", "httpx.Timeout"],
)
def test_9_a_timeout_may_be_given_in_every_form(timeout, connect, fault_server):
    fault_server.script(hang)
    with within(0.2), pytest.raises(APITimeoutError):
        connect(fault_server, timeout=timeout).chat.completions.create(**QUESTION)


def test_9_a_clients_timeout_is_that_of_its_calls(connect, way, fault_server):
    fault_server.script(hang)
    with within(0.2), pytest.raises(APITimeoutError):
        way.ask(connect(fault_server, timeout=0.2))


def test_9_a_timeout_is_between_signs_of_life_so_a_slow_answer_is_whole(timed, way, fault_server):
    if way.streamed:
        events = body_of(": ping\n\n" * 80, *spoken("Hello"))
        fault_server.script(sse(drip(events, every=0.05, size=len(events) // 8 + 1)))
    else:
        answer = way.answer("Hello")
        fault_server.script(drip(answer, every=0.05, size=len(answer) // 8 + 1))
    assert timed(fault_server, 0.3).choices[0].message.content == "Hello"


def test_9_per_call_options_never_reach_the_body(way, connect, fault_server):
    fault_server.script(way.answer())
    way.ask(
        connect(fault_server),
        timeout=5,
        total_timeout=5,
        max_retries=1,
        extra_headers={"x-trace": "7"},
    )
    [request] = fault_server.requests
    assert set(request.json) - {"stream"} == {"model", "messages"}
    assert request.header("x-trace") == "7"


DRIPS = {
    "a head": [drip(head(200, ["x-slow: " + "x" * 10_000]), every=0.02)],
    "a body": [head(200, ["content-length: 10000"]), drip(b" " * 10_000, every=0.02)],
    "chunks": sse(drip(b": ping\n\n" * 10_000, every=0.02, size=8)),
}


@pytest.fixture
def bounded(way, connect):
    """Ask with a total timeout of 0.4 s for the call."""

    def ask(server, *, timeout=60, max_retries=0, **params):
        client = connect(server, timeout=timeout, max_retries=max_retries, total_timeout=60)
        return way.ask(client, total_timeout=0.4, **params)

    return ask


@pytest.mark.parametrize("answer", DRIPS.values(), ids=DRIPS)
def test_10_an_answer_that_drips_is_ended_by_the_total_timeout(answer, bounded, fault_server):
    fault_server.script(answer)
    with within(0.4), pytest.raises(APITimeoutError):
        bounded(fault_server)
    assert len(fault_server.requests) == 1


def test_10_a_clients_total_timeout_is_that_of_its_calls(connect, way, fault_server):
    fault_server.script(hang)
    with within(0.4), pytest.raises(APITimeoutError):
        way.ask(connect(fault_server, total_timeout=0.4))


def test_10_the_status_of_an_error_that_drips_is_not_lost(bounded, fault_server):
    fault_server.script([head(500, ["content-length: 999"]), drip(b" " * 999, every=0.02)])
    with within(0.4), pytest.raises(InternalServerError):
        bounded(fault_server)


def test_10_so_is_silence(bounded, fault_server):
    fault_server.script(hang)
    with within(0.4), pytest.raises(APITimeoutError):
        bounded(fault_server)


def test_10_so_is_a_server_that_cannot_be_reached(bounded):
    with nobody_accepts() as origin, within(0.4), pytest.raises(APITimeoutError):
        bounded(origin)


def test_10_so_is_a_request_that_cannot_be_sent(bounded, fault_server):
    fault_server.greet(deaf)
    with within(0.4), pytest.raises(APITimeoutError):
        bounded(fault_server, messages=LONG_PROMPT)


def test_10_text_that_came_before_is_delivered_first(connect, fault_server):
    fault_server.script(sse(chunk("Hello"), drip(b": ping\n\n" * 10_000, every=0.02, size=8)))
    client = connect(fault_server, total_timeout=0.4)
    text = ""
    with within(0.4), pytest.raises(APITimeoutError) as caught:  # noqa: PT012  # it may fail anywhere in here
        for part in client.chat.completions.create(**QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert text == "Hello"
    assert caught.value.partial.choices[0].message.content == "Hello"


def test_10_text_that_never_ends_is_ended_too(connect, fault_server):
    events = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    fault_server.script(sse(drip(events * 1_000, every=0.02, size=len(events))))
    client = connect(fault_server, total_timeout=0.4)
    text = ""
    with within(0.4), pytest.raises(APITimeoutError):  # noqa: PT012  # it may fail anywhere in here
        for part in client.chat.completions.create(**QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert 5 < len(text) <= 25


def test_10_retries_end_with_the_total_timeout(bounded, fault_server):
    fault_server.always(reply(503, headers=["retry-after-ms: 150"]))
    with within(0.4), pytest.raises(LunarError) as caught:
        bounded(fault_server, max_retries=1_000)
    assert 2 <= len(fault_server.requests) <= 4
    assert len(caught.value.attempts) == len(fault_server.requests)


def test_10_a_wait_that_would_pass_the_total_timeout_is_not_begun(bounded, fault_server):
    fault_server.always(reply(503, headers=["retry-after: 20"]))
    with within(0), pytest.raises(LunarError):
        bounded(fault_server, max_retries=2)
    assert len(fault_server.requests) == 1


def test_10_timeouts_of_single_attempts_add_up_to_no_more(bounded, fault_server):
    fault_server.always(hang)
    with within(0.4), pytest.raises(APITimeoutError):
        bounded(fault_server, timeout=0.1, max_retries=1_000)


def test_10_fallbacks_end_with_the_total_timeout(bounded, fault_server):
    fault_server.always([drip(b"HTTP/1.1 200", every=0.01), reply(503)])
    with within(0.4), pytest.raises(LunarError) as caught:
        bounded(fault_server, timeout=0.15, fallbacks=[f"model-{n}" for n in range(100)])
    assert len(caught.value.attempts) < 10


def test_10_a_call_in_time_is_not_disturbed(bounded, way, fault_server):
    fault_server.script(way.answer("Hello"))
    assert bounded(fault_server).choices[0].message.content == "Hello"
