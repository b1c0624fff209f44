"""How transports end: closed by others, in forks and loops, and what tells of misuse."""

import asyncio
import ssl
import threading
import time

import httpcore
import httpx
import pytest

from lunar_core import (
    APIConnectionError,
    AsyncLunar,
    ConfigurationError,
    Lunar,
    LunarError,
    Transport,
)
from lunar_core.client import addresses, responses
from lunar_core.client.permits import AsyncPermits, Permits
from lunar_core.client.pool import AsyncFreeList, FreeList, Options
from lunar_core.client.tls import tls_context
from tests.faults import nobody_accepts
from tests.faults_steps import chunk, completion, encode, hang, head, reply, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}

# Ends


def in_thread(function):
    """Run it in a thread; call what is returned for what came of it."""
    came = []

    def run():
        try:
            came.append(function())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is looked at
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join(5)
        return came[0]

    return wait


STUCK = {
    "the head": hang,
    "the body": [head(200, ["content-length: 99"]), b"{", hang],
}


@pytest.mark.parametrize("answer", STUCK.values(), ids=STUCK)
def test_close_ends_what_other_threads_wait_for(answer, way, key, fault_server):
    fault_server.always(answer)
    client = Lunar(key, base_url=fault_server.origin, max_retries=3, fallbacks=["b"])
    outcome = in_thread(lambda: way.ask(client))
    fault_server.wait_until(lambda: fault_server.requests)
    time.sleep(0.05)
    closed = time.monotonic()
    client.close()
    error = outcome()
    assert time.monotonic() - closed < 0.5
    assert isinstance(error, APIConnectionError), error
    assert "this client was closed" in str(error)
    assert len(error.attempts) == len(fault_server.requests) == 1
    assert error.attempts[0].may_be_billed


def test_close_ends_a_stream_that_another_thread_reads(key, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = Lunar(key, base_url=fault_server.origin)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    next(stream)
    outcome = in_thread(lambda: next(stream))
    time.sleep(0.05)
    client.close()
    error = outcome()
    assert isinstance(error, LunarError)
    assert "this client was closed" in str(error)
    assert error.partial.choices[0].message.content == "Hel"


def test_close_ends_what_waits_for_a_connection(way, key, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = Lunar(key, base_url=fault_server.origin, max_connections=1)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    outcomes = [in_thread(lambda: way.ask(client)) for _ in range(3)]
    time.sleep(0.1)
    client.close()
    errors = [outcome() for outcome in outcomes]
    assert ["this client was closed" in str(error) for error in errors] == [True] * 3
    assert not any(error.was_sent for error in errors)
    stream.close()


def test_close_ends_what_waits_for_its_next_attempt(way, key, fault_server):
    fault_server.always(reply(503, headers=["retry-after: 30"]))
    client = Lunar(key, base_url=fault_server.origin)
    outcomes = [in_thread(lambda: way.ask(client)) for _ in range(3)]
    fault_server.wait_until(lambda: len(fault_server.requests) == 3)
    time.sleep(0.1)
    closed = time.monotonic()
    client.close()
    errors = [outcome() for outcome in outcomes]
    assert time.monotonic() - closed < 0.5
    for error in errors:
        assert isinstance(error, APIConnectionError), error
        assert "this client was closed" in str(error)
        assert [attempt.status_code for attempt in error.attempts] == [503, None]
        assert not error.was_sent
    assert len(fault_server.requests) == 3


async def test_aclose_ends_what_waits_for_its_next_attempt_in_any_event_loop(key, fault_server):
    fault_server.always(reply(503, headers=["retry-after: 30"]))
    client = AsyncLunar(key, base_url=fault_server.origin)
    here = asyncio.create_task(client.chat.completions.create(**QUESTION))
    elsewhere = in_thread(lambda: asyncio.run(client.chat.completions.create(**QUESTION)))
    await asyncio.to_thread(fault_server.wait_until, lambda: len(fault_server.requests) == 2)
    await asyncio.sleep(0.1)
    await client.aclose()
    (error,) = await asyncio.wait_for(asyncio.gather(here, return_exceptions=True), 0.5)
    for ended in (error, elsewhere()):
        assert isinstance(ended, APIConnectionError), ended
        assert "this client was closed" in str(ended)
    assert len(fault_server.requests) == 2


def test_a_wait_for_the_next_attempt_is_not_ended_by_a_client_that_shares_connections(
    way, key, fault_server
):
    fault_server.script(reply(503, headers=["retry-after-ms: 300"]), way.answer())
    with Lunar(key, base_url=fault_server.origin) as client:
        outcome = in_thread(lambda: way.ask(client))
        fault_server.wait_until(lambda: fault_server.requests)
        client.with_options(timeout=5).close()
        assert outcome().choices[0].message.content == "Hello!"
    first, second = fault_server.requests
    assert second.at - first.at >= 0.3


def test_close_ends_what_is_connecting(way, key):
    with nobody_accepts() as origin:
        client = Lunar(key, base_url=origin, timeout=30, max_retries=0)
        outcome = in_thread(lambda: way.ask(client))
        time.sleep(0.2)
        closed = time.monotonic()
        client.close()
        error = outcome()
    assert time.monotonic() - closed < 0.5
    assert "this client was closed" in str(error)
    assert not error.was_sent


async def test_an_entry_that_was_closed_just_before_a_request_opens_no_connection(fault_server):
    """A thread may be between its permit and its connection."""
    origin = httpcore.Origin(b"http", b"127.0.0.1", fault_server.port)
    url = httpcore.URL(fault_server.origin)
    entry = FreeList(origin, Options(), Permits(1))
    entry.close()
    with pytest.raises(httpcore.ConnectError, match="closed"):
        entry.handle_request(httpcore.Request("GET", url))
    async_entry = AsyncFreeList(origin, Options(), AsyncPermits(1))
    await async_entry.aclose()
    with pytest.raises(httpcore.ConnectError, match="closed"):
        await async_entry.handle_async_request(httpcore.Request("GET", url))
    assert fault_server.total == 0


def test_an_address_is_not_taken_for_dead_because_the_client_was_closed(way, key, monkeypatch):
    monkeypatch.setattr(addresses, "_dead", {})
    with nobody_accepts() as origin:
        client = Lunar(key, base_url=origin, timeout=30, max_retries=0)
        outcome = in_thread(lambda: way.ask(client))
        time.sleep(0.2)
        client.close()
        outcome()
    assert not addresses._dead


def test_close_ends_a_handshake(way, key, fault_server):
    fault_server.greet(hang)
    client = Lunar(key, base_url=fault_server.origin.replace("http:", "https:"), max_retries=0)
    outcome = in_thread(lambda: way.ask(client))
    fault_server.wait_until(lambda: fault_server.open == 1)
    time.sleep(0.1)
    client.close()
    error = outcome()
    assert "this client was closed" in str(error)
    assert not error.was_sent


async def test_aclose_ends_what_other_tasks_wait_for(key, fault_server):
    fault_server.always(hang)
    client = AsyncLunar(key, base_url=fault_server.origin, max_retries=3, fallbacks=["b"])
    call = asyncio.create_task(client.chat.completions.create(**QUESTION))
    await asyncio.to_thread(fault_server.wait_until, lambda: fault_server.requests)
    await client.aclose()
    with pytest.raises(APIConnectionError, match="this client was closed") as caught:
        await call
    assert len(caught.value.attempts) == 1


async def test_aclose_ends_what_waits_for_a_connection_that_nobody_gives_back(key, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = AsyncLunar(key, base_url=fault_server.origin, max_connections=1)
    stream = await client.chat.completions.create(**QUESTION, stream=True)
    calls = [asyncio.create_task(client.chat.completions.create(**QUESTION)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await client.aclose()
    for error in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 0.5):
        assert isinstance(error, APIConnectionError), error
        assert "this client was closed" in str(error)
        assert not error.was_sent
    await stream.aclose()


@pytest.mark.parametrize("proxy", [None, "http", "https", "socks5"])
@pytest.mark.parametrize("waits_for", ["the connection", "the handshake, or the proxy"])
async def test_aclose_ends_what_is_connecting(waits_for, proxy, key, fault_server, monkeypatch):
    fault_server.greet(hang)
    with nobody_accepts() as dead:
        origin = dead if waits_for == "the connection" else fault_server.origin
        if proxy is not None:
            monkeypatch.setenv("all_proxy", origin.replace("http", proxy))
        base_url = origin.replace("http:", "https:") if proxy is None else "https://lunar.test"
        client = AsyncLunar(key, base_url=base_url, timeout=30, max_retries=3)
        call = asyncio.create_task(client.chat.completions.create(**QUESTION))
        await asyncio.sleep(0.2)
        await client.aclose()
        with pytest.raises(APIConnectionError, match="this client was closed") as caught:
            await asyncio.wait_for(call, 1)
        assert not caught.value.was_sent
        assert len(caught.value.attempts) == 1


def test_a_child_that_closes_the_client_leaves_its_parents_call_alone(key, fault_server, run_apart):
    program = """
        import json, os, sys, threading, time
        from lunar_core import Lunar

        client = Lunar("pk", base_url=sys.argv[1], max_retries=0)
        asked = dict(model="m", messages=[dict(role="user", content="x")])
        came = []
        thread = threading.Thread(target=lambda: came.append(client.chat.completions.create(**asked)))
        thread.start()
        time.sleep(0.3)
        child = os.fork()
        if child == 0:
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        thread.join()
        print(json.dumps(came[0].choices[0].message.content))
    """

    def slowly(_request):
        time.sleep(1)
        return reply(json=completion("Hello"))

    fault_server.decide(slowly)
    assert run_apart(program, fault_server.origin) == "Hello"


# Connections come back


@pytest.mark.parametrize("seconds", [0.04, 0.0])
def test_a_connection_comes_back_although_the_end_comes_late(connect, fault_server, seconds):
    """Without TCP_NODELAY, a server's last packet waits for the client's delayed acknowledgement: 40 ms."""

    def late(connection):
        time.sleep(seconds)

    events = b"".join(map(encode, spoken("Hel", "lo")))
    fault_server.always(
        [
            head(200, ["content-type: text/event-stream", "transfer-encoding: chunked"]),
            b"%x\r\n%b\r\n" % (len(events), events),
            late,
            b"0\r\n\r\n",
        ]
    )
    client = connect(fault_server)
    for _ in range(50):
        assert len(list(client.chat.completions.create(**QUESTION, stream=True))) >= 2
    assert fault_server.total <= 2


@pytest.mark.parametrize("transport", ["ours", "an injected client's"])
def test_an_end_that_never_comes_costs_a_reader_a_tenth_of_a_second(
    transport, connect, fault_server
):
    fault_server.always(sse(*spoken("Hello"), hang))
    injected = None if transport == "ours" else connect.httpx_client()
    client = connect(fault_server, http_client=injected)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    for part in stream:
        if part.choices[0].finish_reason:
            started = time.monotonic()
    assert time.monotonic() - started < responses.DRAIN_SECONDS + 0.1
    assert responses.DRAIN_SECONDS <= 0.1


# What tells of misuse


def test_an_event_loop_of_another_kind_is_told_in_words(fault_server):
    """As trio does it: the coroutine is driven by hand, and asyncio knows of no loop."""
    call = AsyncLunar("pk", base_url=fault_server.origin).chat.completions.create(**QUESTION)
    with pytest.raises(ConfigurationError, match=r"asyncio.*trio"):
        call.send(None)
    assert not fault_server.total


def test_another_class_of_tls_contexts_is_used_from_then_on(monkeypatch):
    """Gevent and truststore put one in its place, perhaps after a first call."""
    before, (of_python, *_) = tls_context(), ssl.SSLContext.__bases__
    assert tls_context() is before

    class Injected(ssl.SSLContext):
        def __setattr__(self, name, value):  # Python's own would look for itself, and find this
            getattr(of_python, name).__set__(self, value)

    monkeypatch.setattr(ssl, "SSLContext", Injected)
    assert isinstance(tls_context(), Injected)
    monkeypatch.undo()
    assert tls_context() is before


def test_the_pool_has_one_entry_however_many_are_in_flight(fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    transport = Transport()
    with httpx.Client(transport=transport) as own:
        client = Lunar("pk", base_url=fault_server.origin, http_client=own)
        streams = [client.chat.completions.create(**QUESTION, stream=True) for _ in range(5)]
        (entry,) = transport._pool.connections
        assert isinstance(entry, FreeList)
        assert entry.info() == "5 busy, 0 idle"
        for stream in streams:
            stream.close()
