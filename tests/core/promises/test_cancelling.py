"""Promise 23: a call that is told to stop stops at once, and is never tried again."""

import asyncio
import contextlib
import gc
import itertools
import signal
import threading
import time
from dataclasses import replace

import httpx
import pytest

from lunar_core import (
    APIStreamError,
    AsyncLunar,
    AsyncTransport,
    Budget,
    Ledger,
    Lunar,
    Observer,
)
from lunar_core.client.call import runtime
from tests.core.promises.asking import QUESTION, ask, wait_until
from tests.faults import nobody_accepts
from tests.faults_steps import chunk, completion, deaf, hang, head, reply, sse, wait


class Told(Observer):
    """How each call ended, as observers are told."""

    def __init__(self):
        self.statuses = []

    def after(self, outcome):
        self.statuses.append(outcome.status)


STUCK = {
    "before the answer": hang,
    "in the head": [b"HTTP/1.1 200 OK\r\n", hang],
    "in the body": [head(200, ["content-length: 99"]), b"{", hang],
    "before the first event": sse(hang),
    "before the first text": sse(": ping\n\n", hang),
}


@pytest.mark.parametrize("answer", STUCK.values(), ids=STUCK)
async def test_23_a_cancelled_call_ends_at_once_and_is_never_tried_again(
    answer, way, key, fault_server
):
    fault_server.always(answer)
    told = Told()
    client = AsyncLunar(
        api_key=key,
        base_url=fault_server.origin,
        max_retries=5,
        fallbacks=["b"],
        observers=[told],
    )
    call = asyncio.create_task(ask(client, way))
    await wait_until(lambda: fault_server.requests)
    cancelled = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await wait_until(lambda: fault_server.open == 0)
    assert time.monotonic() - cancelled < 0.5
    assert len(fault_server.requests) == 1
    assert told.statuses == ["aborted"]
    await client.aclose()


async def test_23_a_stream_whose_reading_is_cancelled_is_closed_whoever_holds_it(key, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    told = Told()
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, observers=[told])
    stream = await client.chat.completions.create(**QUESTION, stream=True)
    await anext(stream)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(stream), 0.05)
    await wait_until(lambda: fault_server.open == 0, within=0.5)
    assert told.statuses == ["aborted"]
    with pytest.raises(APIStreamError, match="closed"):
        await anext(stream)
    await client.aclose()


async def test_23_a_stream_cancelled_after_text_ends_at_once(key, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_retries=5)
    heard = []

    async def listen():
        async for part in await client.chat.completions.create(**QUESTION, stream=True):
            heard.extend(part.choices)

    call = asyncio.create_task(listen())
    await wait_until(lambda: heard)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await wait_until(lambda: fault_server.open == 0, within=0.5)
    assert len(fault_server.requests) == 1
    await client.aclose()


async def test_23_a_call_cancelled_while_it_waits_to_try_again_ends_at_once(way, key, fault_server):
    fault_server.always(reply(503, headers=["retry-after: 30"]))
    client = AsyncLunar(api_key=key, base_url=fault_server.origin)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(client, way), 0.2)
    assert len(fault_server.requests) == 1
    await client.aclose()


async def test_23_a_call_cancelled_while_it_waits_for_a_connection_leaves_none_lost(
    key, fault_server
):
    go_on = threading.Event()
    fault_server.always([wait(go_on), reply(json=completion())])
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_connections=1)
    first, second, third = (
        asyncio.create_task(client.chat.completions.create(**QUESTION)) for _ in range(3)
    )
    await wait_until(lambda: fault_server.requests)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    await asyncio.wait_for(asyncio.gather(first, third), 2)
    assert (len(fault_server.requests), fault_server.total) == (2, 1)
    await client.aclose()


@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport, AsyncTransport])
async def test_23_a_call_cancelled_before_it_is_written_is_never_sent(
    transport, way, key, fault_server
):
    """Not even on a connection that is open, and ready to be written to at once; on whatever road."""
    fault_server.always(way.answer())
    injected = None if transport is None else httpx.AsyncClient(transport=transport())
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, http_client=injected)
    await ask(client, way)

    async def cancelled_from_the_start():
        asyncio.current_task().cancel()
        await ask(client, way)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled_from_the_start())
    await asyncio.sleep(0.05)
    assert len(fault_server.requests) == 1
    await client.aclose()
    if injected is not None:
        await injected.aclose()


async def test_23_of_many_calls_at_once_the_first_is_on_its_way_before_the_last_is_built(
    key, fault_server
):
    """What lets a cancellation in must not let all of them get ready first."""
    fault_server.always(reply(json=completion()))
    arrived = []

    def slow_key():
        time.sleep(0.01)
        arrived.append(len(fault_server.requests))
        return key

    client = AsyncLunar(api_key=slow_key, base_url=fault_server.origin)
    for _ in range(2):  # the first time, all wait for their connections
        await asyncio.gather(*(client.chat.completions.create(**QUESTION) for _ in range(8)))
    assert arrived[-1] > 8
    await client.aclose()


@pytest.mark.parametrize("first", ["cancelled", "freed"])
async def test_23_a_connection_that_comes_free_with_a_cancellation_is_not_used(
    first, key, fault_server
):
    fault_server.always(sse(chunk("Hel"), hang))
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_connections=1)
    for number in range(1, 51):
        stream = await client.chat.completions.create(**QUESTION, stream=True)
        waiting = asyncio.create_task(client.chat.completions.create(**QUESTION))
        await asyncio.sleep(0)
        if first == "cancelled":
            waiting.cancel()
        await stream.aclose()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(fault_server.requests) == number
    await client.aclose()


@contextlib.contextmanager
def stuck_connecting(_server):
    with nobody_accepts() as origin:
        yield origin, "Hello!"


@contextlib.contextmanager
def stuck_in_the_handshake(server):
    server.greet(hang)
    yield server.origin.replace("http:", "https:"), "Hello!"


@contextlib.contextmanager
def stuck_writing(server):
    server.greet(deaf)
    yield server.origin, "x" * 20_000_000


@pytest.mark.parametrize("stuck", [stuck_connecting, stuck_in_the_handshake, stuck_writing])
async def test_23_one_that_is_cancelled_before_it_was_taken_ends_at_once_and_leaves_no_socket(
    stuck, way, key, fault_server
):
    told = Told()
    with stuck(fault_server) as (origin, prompt):
        client = AsyncLunar(api_key=key, base_url=origin, max_retries=5, observers=[told])
        messages = [{"role": "user", "content": prompt}]
        call = asyncio.create_task(ask(client, way, messages=messages))
        await asyncio.sleep(0.3)
        cancelled = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - cancelled < 0.5
        del call
        gc.collect()  # a socket that nobody has closed warns
        if stuck is not stuck_writing:  # there the end comes behind what the server does not read
            await wait_until(lambda: fault_server.open == 0)
        await client.aclose()
    assert told.statuses == ["aborted"]
    assert not fault_server.requests


async def test_23_whatever_step_a_call_is_cancelled_at_its_connection_is_not_lost(
    way, key, fault_server
):
    fault_server.always(way.answer())
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_connections=1)
    for steps in range(25):
        call = asyncio.create_task(ask(client, way))
        for _step in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        assert call.cancelled() or steps > 3
        await asyncio.wait_for(ask(client, way), 5)
    await client.aclose()
    await wait_until(lambda: fault_server.open == 0)


@pytest.mark.parametrize("answer", [*STUCK.values(), sse(chunk("Hel"), hang)], ids=[*STUCK, "text"])
def test_23_a_keyboard_interrupt_passes_and_closes_the_connection(answer, way, key, fault_server):
    fault_server.always(answer)
    told = Told()
    client = Lunar(
        api_key=key,
        base_url=fault_server.origin,
        max_retries=5,
        fallbacks=["b"],
        observers=[told],
    )
    interrupted = []

    def interrupt():
        fault_server.wait_until(lambda: len(fault_server.requests) == 1)
        fault_server.wait_until(lambda: fault_server.sent >= len_of(answer))
        time.sleep(
            0.05
        )  # Python acts on a signal in the middle of a wait, and not on one just before it
        interrupted.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as a terminal does

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        way.ask(client)
    assert time.monotonic() - interrupted[0] < 0.5
    thread.join()
    # Although its traceback still holds all that was under way.
    fault_server.wait_until(lambda: fault_server.open == 0, within=0.5)
    assert caught.tb is not None
    assert len(fault_server.requests) == 1
    assert told.statuses == ["aborted"]
    client.close()


class ClockThatInterrupts:
    """Raises KeyboardInterrupt at one look at it, as Ctrl-C does between any two lines."""

    def __init__(self, at):
        self.looks, self._at = 0, at

    def __call__(self):
        self.looks += 1
        if self.looks == self._at:
            raise KeyboardInterrupt
        return time.monotonic()


def test_23_a_call_is_reported_once_wherever_an_interrupt_comes(way, key, fault_server):
    fault_server.always(way.answer())
    interrupts = 0
    for at in itertools.count(2):  # before the first look is over, there is no call
        told, budget, ledger = Told(), Budget(usd=1, reserve="0.1"), Ledger()
        clock = ClockThatInterrupts(at)
        with Lunar(
            key, base_url=fault_server.origin, observers=[told, budget, ledger], max_connections=1
        ) as client:
            client._planner.runtime = replace(runtime(), clock=clock)
            with contextlib.suppress(KeyboardInterrupt):
                way.ask(client)
                if clock.looks < at:
                    break
            interrupts += 1
            assert len(told.statuses) == len(ledger) == 1
            assert budget.state().held == 0
            gc.collect()  # the interrupt may have left a response in a cycle of references
            client._planner.runtime = runtime()
            way.ask(client, timeout=5)  # on the only connection
    assert interrupts >= 3


def len_of(answer):
    steps = [answer] if callable(answer) else answer
    return sum(len(step) for step in steps if isinstance(step, bytes))
