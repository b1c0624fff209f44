"""Promise 24, for who watches: a stream that was dropped is told of, whatever lock is held where that is noticed."""

import asyncio
import gc
import logging
import threading
import time

import pytest

from lunar_core import AsyncLunar, Lunar
from lunar_core.client import own_thread
from tests.faults_steps import chunk, hang, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}


class Locked:
    """As anybody would write one: a lock that knows no owner, round what it keeps."""

    def __init__(self):
        self._lock = threading.Lock()
        self._statuses = []

    def before(self, call):
        pass

    def after(self, outcome):
        with self._lock:
            self._statuses.append(outcome.status)

    def look(self):
        with self._lock:
            gc.collect()  # which comes at any moment
            return list(self._statuses)


class Handler(logging.Handler):
    """As ``Locked``, for what is logged."""

    def __init__(self):
        super().__init__()
        self.kept = Locked()

    def handle(self, record):
        self.emit(record)  # without logging's own lock, which knows its owner

    def emit(self, record):
        if " aborted " in record.getMessage():
            with self.kept._lock:
                self.kept._statuses.append("aborted")


def drop(stream):
    """Leave it to the collector, as tracebacks and frameworks' objects do."""
    knot = [stream]
    knot.append(knot)


def in_time(function):
    """What it returns, in a thread that a test which fails leaves behind."""
    came = []
    thread = threading.Thread(target=lambda: came.append(function()), daemon=True)
    thread.start()
    thread.join(5)
    assert came, "it waits for itself"
    return came[0]


@pytest.fixture(params=["an observer", "a handler of logging"])
def kept(request, caplog):
    """Who is told, and how a client is made that tells it."""
    if request.param == "an observer":
        observer = Locked()
        yield observer, {"observers": [observer]}
        return
    handler = Handler()
    logger = logging.getLogger("lunar_core")
    caplog.set_level(logging.INFO, "lunar_core")
    logger.addHandler(handler)
    yield handler.kept, {}
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def no_collector():
    """But where a test asks for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_24_one_is_told_of_by_the_collector_under_any_lock(connect, kept, fault_server):
    keeper, options = kept
    fault_server.always(sse(chunk("Hel"), hang))
    drop(connect(fault_server, **options).chat.completions.create(**QUESTION))
    assert in_time(keeper.look) == []
    connect.wait_until(lambda: keeper.look() == ["aborted"])


def test_24_so_is_one_whose_event_loop_has_ended(kept, key, fault_server):
    keeper, options = kept
    fault_server.always(sse(chunk("Hel"), hang))

    async def main():
        client = AsyncLunar(key, base_url=fault_server.origin, **options)
        drop(await client.chat.completions.create(**QUESTION))

    asyncio.run(main())
    assert in_time(keeper.look) == []
    time.sleep(0.05)
    assert keeper.look() == ["aborted"]


def test_24_so_is_one_whose_event_loop_stands_still(kept, key, fault_server):
    keeper, options = kept
    fault_server.always(sse(chunk("Hel"), hang))
    loop = asyncio.new_event_loop()
    client = AsyncLunar(key, base_url=fault_server.origin, **options)
    drop(loop.run_until_complete(client.chat.completions.create(**QUESTION)))
    assert in_time(keeper.look) == []
    time.sleep(0.05)
    assert keeper.look() == ["aborted"]  # although the loop may never run again
    loop.run_until_complete(client.aclose())
    loop.close()


def test_24_so_is_a_call_whose_coroutine_is_dropped_while_it_waits(kept, key, fault_server):
    keeper, options = kept

    async def main():
        client = AsyncLunar(key, base_url=fault_server.origin, **options)
        call = client.chat.completions.create(**QUESTION)
        call.send(None)  # as far as its first wait
        drop(call)

    asyncio.run(main())
    assert in_time(keeper.look) == []
    time.sleep(0.05)
    assert keeper.look() == ["aborted"]


def test_24_who_drops_one_himself_finds_it_told(kept, key, fault_server):
    keeper, options = kept
    fault_server.always(sse(chunk("Hel"), hang))
    with Lunar(key, base_url=fault_server.origin, **options) as client:
        for _left in range(50):
            for _part in client.chat.completions.create(**QUESTION):
                break
        assert keeper.look() == ["aborted"] * 50


def test_24_an_observer_that_waits_for_what_the_dropper_holds_does_not_hold_him(key, fault_server):
    keeper = Locked()
    fault_server.always(sse(chunk("Hel"), hang))
    client = Lunar(key, base_url=fault_server.origin, observers=[keeper])
    stream = client.chat.completions.create(**QUESTION)
    with keeper._lock:
        started = time.monotonic()
        del stream
        assert time.monotonic() - started < own_thread.WAIT_SECONDS + 0.5
    client.close()
    time.sleep(0.05)
    assert keeper.look() == ["aborted"]


def test_24_one_that_is_dropped_as_the_program_ends_is_told_of(run_apart, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    program = """
        import json, sys
        from lunar_core import Lunar

        class Printer:
            def before(self, call): pass
            def after(self, outcome): print(json.dumps(outcome.status))

        client = Lunar("pk", base_url=sys.argv[1], observers=[Printer()])
        stream = client.chat.completions.create(
            model="m", messages=[dict(role="user", content="x")], stream=True
        )
        next(stream)
    """
    assert run_apart(program, fault_server.origin) == "aborted"
