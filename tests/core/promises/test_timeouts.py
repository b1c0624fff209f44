"""Promises 9 and 10: nothing takes longer than it was allowed to."""

import socket
import time
from contextlib import contextmanager

import httpx
import pytest

from lunar_core import (
    APIConnectionError,
    APITimeoutError,
    InternalServerError,
    Lunar,
    LunarError,
    Timeout,
)
from tests.faults import nobody_accepts, nobody_listens
from tests.faults_steps import body_of, chunk, deaf, drip, endless, hang, head, reply, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
LONG_PROMPT = [{"role": "user", "content": "x" * (24 << 20)}]  # more than any socket buffers


@contextmanager
def within(seconds, since=()):
    """One second more than was allowed is the promise; `since` says when the clock began to run, if later."""
    started = time.monotonic()
    yield
    assert time.monotonic() - [started, *since][-1] < seconds + 1


def deaf_from(connected):
    """A greeting that notes the time and then reads nothing: writing the prompt as JSON is not what is timed."""
    return [lambda _connection: connected.append(time.monotonic()), deaf]


@pytest.fixture
def timed(way, connect):
    """Ask with a timeout for the call, over a client's longer one."""

    def ask(server, timeout, **params):
        return way.ask(connect(server, timeout=60), timeout=timeout, **params)

    return ask


def test_9_connecting_takes_no_longer_than_the_timeout(timed):
    with nobody_accepts() as origin, within(0.2), pytest.raises(APITimeoutError):
        timed(origin, 0.2)


def test_9_nor_does_it_for_each_of_many_addresses(timed, monkeypatch):
    with nobody_accepts() as origin:
        port = int(origin.rpartition(":")[2])
        found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found * 10)
        with within(0.3), pytest.raises(APITimeoutError):
            timed(origin, 0.3)


def test_9_an_address_that_does_not_answer_leaves_time_for_one_that_does(
    timed, way, fault_server, monkeypatch
):
    fault_server.script(way.answer("Hello"))
    with nobody_accepts() as origin:
        ports = [int(origin.rpartition(":")[2]), fault_server.port]
        found = [
            address
            for port in ports
            for address in socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        answer = timed(fault_server, (1, 5))
    assert answer.choices[0].message.content == "Hello"


def test_9_an_address_of_a_kind_that_this_machine_does_not_know_is_passed_over(
    timed, way, fault_server, monkeypatch
):
    fault_server.script(way.answer("Hello"))
    found = socket.getaddrinfo("127.0.0.1", fault_server.port, type=socket.SOCK_STREAM)
    unknown = (9_999, *found[0][1:])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [unknown, *found])
    assert timed(fault_server, 60).choices[0].message.content == "Hello"


@pytest.mark.parametrize(("timeout", "most"), [(1, 0.5), (60, 1), (None, 1)])
def test_9_an_address_has_its_share_of_the_timeout_and_no_more_than_a_second_while_there_are_others(
    timeout, most, fault_server, monkeypatch
):
    told = []

    class Told(socket.socket):
        def settimeout(self, seconds):
            told.append(seconds)
            super().settimeout(seconds)

    port = int(nobody_listens().rpartition(":")[2])
    found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found * 2)
    monkeypatch.setattr(socket, "socket", Told)
    steps = Timeout(connect=timeout)
    client = Lunar(api_key="pk", base_url=fault_server.origin, timeout=steps, max_retries=0)
    with pytest.raises(APIConnectionError):
        client.chat.completions.create(**QUESTION)
    first, second = told
    assert first <= most
    assert second is None if timeout is None else most < second <= timeout


def test_9_so_does_the_handshake_of_tls(timed, fault_server):
    fault_server.greet(hang)
    with within(0.2), pytest.raises(APITimeoutError):
        timed(fault_server.origin.replace("http:", "https:"), 0.2)


def test_9_waiting_for_the_answer_takes_no_longer_than_the_timeout(timed, fault_server):
    fault_server.script(hang)
    with within(0.2), pytest.raises(APITimeoutError):
        timed(fault_server, 0.2)


def test_9_so_does_waiting_in_the_middle_of_an_answer(timed, fault_server):
    fault_server.script([head(200, ["content-length: 99"]), b'{"id":', hang])
    with within(0.2), pytest.raises(APITimeoutError):
        timed(fault_server, 0.2)


def test_9_sending_the_request_takes_no_longer_than_the_timeout(timed, fault_server):
    connected = []
    fault_server.greet(deaf_from(connected))
    with within(0.3, since=connected), pytest.raises(APITimeoutError):
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


def test_10_so_is_waiting_for_a_connection(connect, way, fault_server):
    fault_server.script(sse(chunk("Hel"), hang))
    client = connect(fault_server, max_connections=1)
    with client.chat.completions.create(**QUESTION, stream=True) as stream:
        chunks = iter(stream)
        next(chunks)
        with within(0.4), pytest.raises(APITimeoutError):
            way.ask(client, total_timeout=0.4)
    assert len(fault_server.requests) == 1


def test_10_so_is_a_server_that_cannot_be_reached(bounded):
    with nobody_accepts() as origin, within(0.4), pytest.raises(APITimeoutError):
        bounded(origin)


def test_10_so_is_a_request_that_cannot_be_sent(bounded, fault_server):
    connected = []
    fault_server.greet(deaf_from(connected))
    with within(0.4, since=connected), pytest.raises(APITimeoutError):
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
    assert "(total_timeout ran out, 0.4 s)" in str(caught.value)


def test_9_a_stream_that_falls_silent_says_which_timeout_ran_out(connect, fault_server):
    fault_server.script(sse(chunk("Hello"), hang))
    stream = connect(fault_server, timeout=0.2).chat.completions.create(**QUESTION, stream=True)
    with pytest.raises(APITimeoutError, match=r"\(timeout\.read is 0\.2 s\)"):
        stream.get_final_completion()


def test_10_a_reader_who_comes_back_too_late_is_told_at_once(connect, fault_server):
    fault_server.script(sse(chunk("Hello"), hang))
    ends = time.monotonic() + 1
    stream = connect(fault_server, total_timeout=1).chat.completions.create(**QUESTION, stream=True)
    chunks = iter(stream)
    next(chunks)
    connect.wait_until(lambda: time.monotonic() > ends + 0.1, within=10)
    with within(0), pytest.raises(APITimeoutError):
        next(chunks)


def test_10_text_that_never_ends_is_ended_too(connect, fault_server):
    events = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    fault_server.script(sse(drip(events * 1_000, every=0.02, size=len(events))))
    client = connect(fault_server, total_timeout=1)
    text = ""
    with within(1), pytest.raises(APITimeoutError):  # noqa: PT012  # it may fail anywhere in here
        for part in client.chat.completions.create(**QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert 1 < len(text) <= 60


def test_10_so_is_text_that_comes_faster_than_it_is_read(connect, fault_server):
    events = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    fault_server.script(sse(endless(events * 1_000, limit=16 << 20)))
    client = connect(fault_server, total_timeout=0.4)
    with within(0.4), pytest.raises(APITimeoutError):
        for _chunk in client.chat.completions.create(**QUESTION, stream=True):
            pass


def test_10_retries_end_with_the_total_timeout(bounded, fault_server):
    fault_server.always(reply(503, headers=["retry-after-ms: 50"]))
    with within(0.4), pytest.raises(LunarError) as caught:
        bounded(fault_server, max_retries=1_000)
    requests = len(fault_server.requests)
    assert 2 <= requests <= 9
    # The time may be over as the last one is written: the server need not have read it by then.
    assert len(caught.value.attempts) in (requests, requests + 1)


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


def test_10_a_call_in_time_is_not_disturbed(connect, way, fault_server):
    fault_server.script(way.answer("Hello"))
    answer = way.ask(connect(fault_server, total_timeout=60), total_timeout=30)
    assert answer.choices[0].message.content == "Hello"
