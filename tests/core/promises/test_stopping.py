"""Promise 24, a stop button's case: a stream is closed by another thread or task than the one that waits for it."""

import asyncio
import threading
import time

import pytest

from lunar_core import APIStreamError, Ledger
from tests.core.conftest import AsyncSide
from tests.faults_steps import chunk, completion, hang, reply, sse

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
