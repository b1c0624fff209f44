"""A stream belongs to the event loop that opened it: elsewhere it says so, and can be closed."""

import asyncio
import threading

import httpx
import pytest

from lunar_core import APIStreamError, AsyncLunar, Ledger
from tests.faults_steps import chunk, hang, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}


@pytest.fixture(params=["ended", "running"])
def other_loop(request):
    """Runs a coroutine in a loop that has ended since, or goes on in another thread."""
    if request.param == "ended":
        yield asyncio.run
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.run_until_complete(loop.shutdown_asyncgens())  # as asyncio.run() ends a loop
    loop.close()


@pytest.fixture(params=["ours", "an injected client"])
def make_client(request, fault_server):
    """A client, to be made in the loop that uses it."""

    def make(**options):
        own = None if request.param == "ours" else httpx.AsyncClient()
        return AsyncLunar(
            "pk", base_url=fault_server.origin, max_retries=0, http_client=own, **options
        )

    return make


async def opened(client):
    stream = await client.chat.completions.create(**QUESTION)
    return stream, await anext(stream)


async def read(stream):
    return [part async for part in stream]


def test_a_stream_that_is_read_in_another_loop_says_so(make_client, other_loop, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    ledger = Ledger()
    stream, _ = other_loop(opened(make_client(observers=[ledger])))
    for _time in range(2):
        with pytest.raises(
            APIStreamError, match=r"event loop that opened it.*asyncio\.run"
        ) as caught:
            asyncio.run(read(stream))
        assert caught.value.partial.choices[0].message.content == "Hel"
    assert (len(ledger), ledger.unpriced) == (1, 1)
    fault_server.wait_until(lambda: fault_server.open == 0)


def test_a_stream_that_is_closed_in_another_loop_frees_its_connection(
    make_client, other_loop, fault_server
):
    fault_server.always(sse(chunk("Hel"), hang))
    stream, _ = other_loop(opened(make_client()))
    asyncio.run(stream.aclose())
    with pytest.raises(APIStreamError, match="closed before its end"):
        asyncio.run(read(stream))
    fault_server.wait_until(lambda: fault_server.open == 0)


def test_closing_it_there_ends_a_read_in_its_own(make_client, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))

    async def main():
        stream, _ = await opened(make_client())
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(asyncio.run, stream.aclose())
        with pytest.raises(APIStreamError, match="closed before its end"):
            await asyncio.wait_for(reading, 1)

    asyncio.run(main())
