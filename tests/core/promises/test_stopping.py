"""Promise 24, a stop button's case: a stream is closed by another thread or task than the one that waits for it."""

import asyncio
import concurrent.futures
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lunar_core import APIStreamError, Ledger, Lunar
from lunar_core.client.responses import DRAIN_SECONDS
from tests.core.conftest import AsyncSide
from tests.faults_steps import body_of, chunk, completion, hang, reply, spoken, sse, wait

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


def stop_from_a_thread(_side, stream, may_stop):
    """Close the stream as soon as it may be; what the thread that reads it meets."""
    stopping = threading.Thread(target=lambda: (may_stop(), stream.close()))
    stopping.start()
    try:
        with pytest.raises(APIStreamError) as met:
            for _chunk in stream:
                pass
        return met.value
    finally:
        stopping.join(10)


def stop_from_a_task(side, stream, may_stop):
    """The same of a task."""

    async def read():
        async for _chunk in side.bare(stream):
            pass

    async def main():
        reading = asyncio.create_task(read())
        await asyncio.to_thread(may_stop)
        await side.bare(stream).aclose()
        with pytest.raises(APIStreamError) as met:
            await reading
        return met.value

    return side.loop.run_until_complete(main())


def test_24_closing_a_stream_elsewhere_ends_the_wait_for_it(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), hang), reply(json=completion("next")))
    ledger = Ledger()
    client = connect(fault_server, observers=[ledger])
    stream = client.chat.completions.create(**QUESTION, stream=True)
    began = time.monotonic()
    stop = stop_from_a_task if isinstance(connect, AsyncSide) else stop_from_a_thread
    error = stop(connect, stream, lambda: time.sleep(0.1))
    assert "the stream was closed before its end" in str(error)
    assert time.monotonic() - began < 5
    connect.wait_until(lambda: fault_server.open == 0, within=2)
    assert client.chat.completions.create(**QUESTION).choices[0].message.content == "next"
    assert [entry.status for entry in ledger] == ["aborted", "ok"]


def test_24_closing_a_stream_elsewhere_at_its_end_leaves_the_next_call_on_its_connection_alone(
    key, fault_server
):
    may_answer = threading.Event()
    whole = reply(200, body_of(*spoken("Hi")), ["content-type: text/event-stream"])
    fault_server.script(whole, [wait(may_answer), reply(json=completion("the next answer"))])

    class Stop:
        """Where the stream has ended: closes it in another thread, and sends the next call on its connection."""

        def before(self, call):
            pass

        def after(self, outcome):
            if outcome.streamed:
                threads.submit(stream.close).result(10)
                answers.append(threads.submit(client.chat.completions.create, **QUESTION))
                fault_server.wait_until(lambda: len(fault_server.requests) == 2, within=10)

    answers = []
    with (
        ThreadPoolExecutor() as threads,
        Lunar(key, base_url=fault_server.origin, observers=[Stop()], max_retries=0) as client,
    ):
        stream = client.chat.completions.create(**QUESTION, stream=True)
        assert stream.get_final_completion().choices[0].message.content == "Hi"
        longer_than_a_drain = 3 * DRAIN_SECONDS
        assert not concurrent.futures.wait(answers, longer_than_a_drain).done
        may_answer.set()
        assert answers[0].result(10).choices[0].message.content == "the next answer"
    assert fault_server.total == 1
