"""Promises 24, 25 and 27: streams and clients end when they are left, and leave nothing behind."""

import asyncio
import copy
import gc
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from lunar_core import APIConnectionError, AsyncLunar, ConfigurationError, Lunar, LunarError
from lunar_core.client import pool
from tests.core.promises.asking import QUESTION, ask, wait_until
from tests.faults_steps import chunk, completion, hang, head, reply, spoken, sse, wait


def leave_by_break(stream):
    for _part in stream:
        break


def leave_by_closing(stream):
    next(stream)  # a loop that is left, or its iterator, would close it by itself
    stream.close()


def leave_by_with(stream):
    with stream:
        next(stream)


def leave_by_an_exception(stream):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # it may fail anywhere in here
        for _part in stream:
            1 / 0  # noqa: B018  # the exception


def leave_by_an_exception_in_with(stream):
    with pytest.raises(ZeroDivisionError), stream:  # noqa: PT012  # it may fail anywhere in here
        for _part in stream:
            1 / 0  # noqa: B018  # the exception


WAYS_OUT = [
    leave_by_break,
    leave_by_closing,
    leave_by_with,
    leave_by_an_exception,
    leave_by_an_exception_in_with,
]


@pytest.mark.parametrize("leave", WAYS_OUT, ids=lambda leave: leave.__name__)
def test_24_a_stream_that_is_left_closes_its_connection(leave, connect, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = connect(fault_server)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    leave(stream)
    connect.wait_until(lambda: fault_server.open == 0, within=1)
    fault_server.always(reply(json=completion("next")))
    answer = client.chat.completions.create(**QUESTION)
    assert answer.choices[0].message.content == "next"


def test_24_so_does_one_that_nobody_ever_reads(connect, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = connect(fault_server)
    for _stream in range(5):
        client.chat.completions.create(**QUESTION, stream=True)
    gc.collect()
    connect.wait_until(lambda: fault_server.open == 0, within=1)
    assert fault_server.total == 5


def test_24_and_one_that_sits_in_a_cycle_of_references(connect, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = connect(fault_server)
    cycle = [client.chat.completions.create(**QUESTION, stream=True)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    connect.wait_until(lambda: fault_server.open == 0, within=1)


def test_24_dropped_streams_do_not_starve_the_pool(connect, way, fault_server):
    fault_server.script(*[sse(chunk("Hel"), hang)] * 6)
    fault_server.always(way.answer("served"))
    client = connect(fault_server, max_connections=2, timeout=5)
    for _stream in range(6):
        client.chat.completions.create(**QUESTION, stream=True)
        connect.run_on()
    assert way.ask(client).choices[0].message.content == "served"


def test_24_closing_twice_or_after_the_end_is_no_error(connect, fault_server):
    fault_server.always(sse(*spoken("Hello")))
    client = connect(fault_server)
    read = client.chat.completions.create(**QUESTION, stream=True)
    assert list(read)
    left = client.chat.completions.create(**QUESTION, stream=True)
    for stream in (read, read, left, left):
        stream.close()
    assert list(read) == []


def test_24_a_closed_stream_says_so_instead_of_ending_as_if_whole(connect, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    stream = connect(fault_server).chat.completions.create(**QUESTION, stream=True)
    next(iter(stream))
    stream.close()
    with pytest.raises(LunarError, match="closed"):
        list(stream)


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, pickle.dumps])
def test_24_a_stream_is_one_connection_so_there_is_no_copy_of_it(twin, connect, fault_server):
    fault_server.script(sse(*spoken("Hel", "lo")))
    stream = connect(fault_server).chat.completions.create(**QUESTION, stream=True)
    with pytest.raises(TypeError, match=r"stream.*get_final_completion"):
        twin(connect.bare(stream))
    assert stream.get_final_completion().choices[0].message.content == "Hello"


ABANDON = """
    import asyncio, faulthandler, gc, json, os, random, sys, threading
    import httpx
    from lunar_core import AsyncLunar, Lunar

    faulthandler.dump_traceback_later(90, exit=True)
    kind, road, dropped, origin = sys.argv[1:]
    told = dict(api_key="pk", base_url=origin, timeout=5)
    asked = dict(model="m", messages=[dict(role="user", content="x")], stream=True)

    def files():
        return len(os.listdir("/proc/self/fd"))

    def tangled(things):
        knot = list(things)
        knot.append(knot)
        [{} for _ in range(random.randrange(300))]  # so that the collector comes at any moment

    def sync(count):
        own = None if road == "ours" else httpx.Client(verify=httpx.create_ssl_context(verify=False))
        client = Lunar(http_client=own, **told)
        for number in range(count):
            one = Lunar(http_client=own, **told) if dropped == "with its client" else client
            stream = one.chat.completions.create(**asked)
            for _part in stream if number % 2 else ():
                break
            tangled([stream, *([one] if one is not client else [])])
            del stream, one
        gc.collect()
        client.close()
        if own is not None:
            own.close()

    async def asynchronous(count):
        own = None
        if road != "ours":
            own = httpx.AsyncClient(verify=httpx.create_ssl_context(verify=False))
        client = AsyncLunar(http_client=own, **told)
        for number in range(count):
            one = AsyncLunar(http_client=own, **told) if dropped == "with its client" else client
            stream = await one.chat.completions.create(**asked)
            if number % 2:
                async for _part in stream:
                    break
            tangled([stream, *([one] if one is not client else [])])
            del stream, one
        gc.collect()
        await asyncio.sleep(0.1)
        await client.aclose()
        if own is not None:
            await own.aclose()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    def run(count):
        sync(count) if kind == "sync" else asyncio.run(asynchronous(count))
        gc.collect()

    run(5)
    before = files(), threading.active_count()
    gc.freeze()  # what was loaded so far is no garbage, and looking at it takes nearly all the time
    for threshold in (1, 50, 300, 700):
        gc.set_threshold(threshold, 5, 5)
        run(250)
        assert (files(), threading.active_count()) == before, (files(), before)
    print(json.dumps("done"))
"""


@pytest.mark.parametrize("dropped", ["alone", "with its client"])
@pytest.mark.parametrize("transport", ["ours", "an injected client"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_24_1000_abandoned_streams_neither_leak_nor_deadlock(
    kind, transport, dropped, fault_server, run_apart
):
    """Whenever the garbage collector comes: inside httpcore's pool, too, whose lock knows no owner."""
    fault_server.always(sse(chunk("Hel"), hang))
    assert run_apart(ABANDON, kind, transport, dropped, fault_server.origin) == "done"
    assert len(fault_server.requests) == 1_005
    fault_server.wait_until(lambda: fault_server.open == 0)


def echo(request):
    """An answer of the prompt's own words."""
    text = request.json["messages"][0]["content"]
    return sse(*spoken(*text)) if request.json.get("stream") else reply(json=completion(text))


def prompt(number):
    return [{"role": "user", "content": f"number {number} of many"}]


@pytest.mark.usefixtures("unhurried")
def test_25_24_threads_share_a_client_from_their_first_calls_on(way, key, fault_server):
    fault_server.decide(echo)
    barrier = threading.Barrier(24)

    def ask(number):
        if number < 24:
            barrier.wait()
        return way.ask(client, messages=prompt(number)).choices[0].message.content

    with (
        Lunar(api_key=key, base_url=fault_server.origin) as client,
        ThreadPoolExecutor(24) as threads,
    ):
        answers = list(threads.map(ask, range(240)))
        assert answers == [prompt(number)[0]["content"] for number in range(240)]
        assert fault_server.total <= 24
        connections = fault_server.total
        way.ask(client, messages=prompt(0))
        assert fault_server.total == connections
    fault_server.wait_until(lambda: fault_server.open == 0)


@pytest.mark.usefixtures("unhurried")
async def test_25_50_tasks_share_a_client_from_their_first_calls_on(way, key, fault_server):
    fault_server.decide(echo)

    async def ask(number):
        question = QUESTION | {"messages": prompt(number)}
        if not way.streamed:
            answer = await client.chat.completions.create(**question)
        else:
            async with await client.chat.completions.create(**question, stream=True) as stream:
                answer = await stream.get_final_completion()
        return answer.choices[0].message.content

    async with AsyncLunar(api_key=key, base_url=fault_server.origin) as client:
        for start in range(0, 250, 50):
            numbers = range(start, start + 50)
            answers = await asyncio.gather(*map(ask, numbers))
            assert answers == [prompt(number)[0]["content"] for number in numbers]
            assert fault_server.total <= 50
    await wait_until(lambda: fault_server.open == 0)


def test_25_threads_with_an_event_loop_each_share_an_async_client(key, fault_server):
    fault_server.decide(echo)
    client = AsyncLunar(api_key=key, base_url=fault_server.origin)

    async def ask(number):
        answers = [
            await client.chat.completions.create(model="m", messages=prompt(number))
            for _ in range(3)
        ]
        return {answer.choices[0].message.content for answer in answers}

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: asyncio.run(ask(number)), range(16)))
    assert answers == [{prompt(number)[0]["content"]} for number in range(16)]
    fault_server.wait_until(lambda: fault_server.open == 0)
    asyncio.run(client.aclose())


@pytest.mark.usefixtures("unhurried")
def test_25_calls_one_after_another_use_one_connection(connect, way, fault_server):
    fault_server.always(way.answer())
    client = connect(fault_server)
    for _call in range(20):
        way.ask(client)
    assert (len(fault_server.requests), fault_server.total) == (20, 1)


@pytest.mark.usefixtures("unhurried")
def test_25_a_connection_is_kept_through_an_error_status_and_a_retry(
    connect, way, fault_server, waits
):
    fault_server.script(reply(503), reply(400, b"no"), way.answer())
    client = connect(fault_server, max_retries=1)
    with pytest.raises(LunarError):
        way.ask(client)
    way.ask(client)
    assert {request.connection for request in fault_server.requests} == {1}


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    "begun",
    [sse(*spoken("Hello")), [head(400, ["content-length: 4"]), b"no"]],
    ids=["behind the last word", "in an error"],
)
def test_25_so_is_one_on_which_the_end_of_an_answer_comes_late(begun, connect, way, fault_server):
    go_on = threading.Event()
    rest = [] if callable(begun[0]) else [b"pe"]
    fault_server.script([*begun, wait(go_on), *rest], way.answer("again"))
    client = connect(fault_server)
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    try:
        list(client.chat.completions.create(**QUESTION, stream=True))
    except LunarError as error:
        assert error.body == "nope"  # noqa: PT017  # the other half of them succeeds
    timer.join()
    assert way.ask(client).choices[0].message.content == "again"
    assert fault_server.total == 1


@pytest.fixture
def later(monkeypatch):
    """Let so many seconds go by, for the pools alone."""
    ahead = [0.0]
    monkeypatch.setattr(
        pool, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(ahead))
    )
    return ahead.append


@pytest.mark.usefixtures("unhurried")
def test_25_a_connection_is_kept_for_half_a_minute(connect, way, fault_server, later):
    fault_server.always(way.answer())
    client = connect(fault_server)
    for seconds in (0, 29, 29, 31):
        later(seconds)
        way.ask(client)
    assert [request.connection for request in fault_server.requests] == [1, 1, 1, 2]
    connect.wait_until(lambda: fault_server.open == 1)


@pytest.mark.usefixtures("unhurried")
def test_25_those_that_are_not_needed_any_more_are_closed_meanwhile(
    connect, way, fault_server, later
):
    fault_server.always(sse(*spoken("Hello")))
    client = connect(fault_server)
    streams = [client.chat.completions.create(**QUESTION, stream=True) for _ in range(3)]
    for stream in streams:
        list(stream)
    assert fault_server.open == 3
    fault_server.always(way.answer())
    for seconds in (20, 20):
        later(seconds)
        way.ask(client)
    connect.wait_until(lambda: fault_server.open == 1)
    assert fault_server.total == 3


def test_25_a_kept_connection_that_the_server_has_closed_costs_no_attempt(
    connect, way, fault_server
):
    fault_server.script(way.answer())
    client = connect(fault_server)
    way.ask(client)
    fault_server.hang_up()
    connect.wait_until(lambda: fault_server.open == 0)
    fault_server.script(way.answer())
    assert len(way.ask(client).call.attempts) == 1


def test_25_what_a_server_says_unasked_is_not_taken_for_the_next_answer(connect, way, fault_server):
    surplus = reply(json=completion("of somebody else"))
    answer = way.answer("yours")
    whole = [*answer, lambda connection: connection.send_raw(b"0\r\n\r\n" + surplus)]
    fault_server.always(answer + surplus if isinstance(answer, bytes) else whole)
    client = connect(fault_server)
    for _call in range(3):
        assert way.ask(client).choices[0].message.content == "yours"


def open_files():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_27_closing_a_client_leaves_no_connection_file_or_thread(connect, way, fault_server):
    fault_server.always(way.answer())
    way.ask(connect(fault_server))  # whatever is loaded once is loaded now
    connect.run_on()
    threads = threading.active_count() - fault_server.open
    files = open_files() - 2 * fault_server.open
    for _round in range(3):
        client = connect(fault_server)
        way.ask(client)
        client.close()
    connect.wait_until(lambda: fault_server.open == 1)
    connect.wait_until(lambda: threading.active_count() == threads + 1)
    connect.wait_until(lambda: open_files() == files + 2)


def test_27_closing_a_client_ends_its_open_streams(connect, fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    client = connect(fault_server)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    chunks = iter(stream)
    next(chunks)
    client.close()
    connect.wait_until(lambda: fault_server.open == 0)
    with pytest.raises(LunarError):
        next(chunks)


def test_27_a_closed_client_says_so(connect, way, fault_server):
    client = connect(fault_server)
    for _time in range(2):
        client.close()
    with pytest.raises((ConfigurationError, APIConnectionError), match="closed"):
        way.ask(client)
    assert fault_server.total == 0


def test_27_a_client_that_is_dropped_closes_its_connections(way, key, fault_server):
    fault_server.always(way.answer())
    client = Lunar(api_key=key, base_url=fault_server.origin)
    way.ask(client)
    assert fault_server.open == 1
    del client
    gc.collect()
    fault_server.wait_until(lambda: fault_server.open == 0)


@pytest.mark.parametrize("streaming", [False, True], ids=["idle", "in mid-stream"])
def test_27_so_does_one_that_is_collected_in_a_cycle_of_references(
    streaming, key, fault_server, recwarn
):
    fault_server.always(sse(chunk("Hel"), hang) if streaming else reply(json=completion()))
    client = Lunar(api_key=key, base_url=fault_server.origin)
    client.knot = [client, client.chat.completions.create(**QUESTION, stream=streaming)]
    del client
    gc.collect()
    fault_server.wait_until(lambda: fault_server.open == 0)
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]


async def test_27_both_clients_work_inside_a_running_loop_as_in_a_notebook(way, key, fault_server):
    fault_server.always(way.answer("Hello"))
    with Lunar(api_key=key, base_url=fault_server.origin) as client:
        assert way.ask(client).choices[0].message.content == "Hello"
    async with AsyncLunar(api_key=key, base_url=fault_server.origin) as client:
        assert await ask(client, way)
    await wait_until(lambda: fault_server.open == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
