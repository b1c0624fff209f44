"""Promise 26: forks and event loops each have connections of their own."""

import asyncio
import threading

import pytest

from lunar_core import AsyncLunar
from tests.faults_steps import chunk, completion, hang, reply, spoken, sse, wait

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}

FORK = """
    import asyncio, gc, json, os, sys
    from lunar_core import AsyncLunar, Lunar

    kind, origin = sys.argv[1:]
    told = dict(api_key="pk", base_url=origin, max_retries=0, timeout=5)
    client = Lunar(**told) if kind == "sync" else AsyncLunar(**told)

    def ask(who, number):
        asked = dict(model=who, messages=[dict(role="user", content=f"{who} {number}")])
        if kind == "sync":
            answer = client.chat.completions.create(**asked)
        else:
            async def main():
                return await client.chat.completions.create(**asked)
            answer = asyncio.run(main())
        assert len(answer.call.attempts) == 1
        return answer.choices[0].message.content

    assert ask("parent", 0) == "parent 0"
    child = os.fork()
    if child == 0:
        right = all(ask("child", number) == f"child {number}" for number in range(5))
        if kind == "sync":
            client.close()
        gc.collect()
        os._exit(0 if right else 1)
    heard = [ask("parent", number) for number in range(1, 6)]
    assert heard == [f"parent {number}" for number in range(1, 6)], heard
    assert os.waitpid(child, 0)[1] == 0
    assert ask("parent", 6) == "parent 6"
    print(json.dumps("done"))
"""


def echo(request):
    return reply(json=completion(request.json["messages"][0]["content"]))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_26_a_forked_child_never_uses_its_parents_connections(kind, fault_server, run_apart):
    fault_server.decide(echo)
    assert run_apart(FORK, kind, fault_server.origin) == "done"
    connections = {"parent": set(), "child": set()}
    for request in fault_server.requests:
        connections[request.json["model"]].add(request.connection)
    assert not connections["parent"] & connections["child"]
    assert len(fault_server.requests) == 12
    if kind == "sync":  # each has kept its own all the while
        assert [len(numbers) for numbers in connections.values()] == [1, 1]


FORK_IN_A_STREAM = """
    import gc, json, os, sys, warnings
    from lunar_core import Ledger, Lunar

    ledger = Ledger()
    told = dict(max_retries=0, timeout=5, observers=[ledger])
    client = Lunar(api_key="pk", base_url=sys.argv[1], **told)
    asked = dict(model="m", messages=[dict(role="user", content="x")])
    stream = client.chat.completions.create(**asked, stream=True)
    chunks = iter(stream)
    text = next(chunks).choices[0].delta.content
    child = os.fork()
    if child == 0:
        warnings.simplefilter("ignore", ResourceWarning)  # the socket is the parent's to close
        del chunks, stream
        gc.collect()
        client.close()
        os._exit(len(ledger))  # its parent counts the call
    assert os.waitpid(child, 0)[1] == 0
    client.chat.completions.create(**asked)  # only now does the server go on
    text += "".join(part.choices[0].delta.content or "" for part in chunks)
    print(json.dumps(text))
"""


def test_26_a_child_that_drops_its_parents_stream_does_not_end_it(fault_server, run_apart):
    go_on = threading.Event()

    def go(_request):
        go_on.set()
        return reply(json=completion())

    fault_server.script(sse(chunk("Hel"), wait(go_on), chunk("lo"), *spoken()))
    fault_server.decide(go)
    assert run_apart(FORK_IN_A_STREAM, fault_server.origin) == "Hello"


def test_26_event_loops_one_after_another_share_a_client_without_a_lost_attempt(
    way, key, fault_server
):
    fault_server.always(way.answer("Hello"))
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_retries=0)

    async def ask():
        if not way.streamed:
            return await client.chat.completions.create(**QUESTION)
        async with await client.chat.completions.create(**QUESTION, stream=True) as stream:
            return await stream.get_final_completion()

    for number in range(1, 4):
        answer = asyncio.run(ask())
        assert answer.choices[0].message.content == "Hello"
        assert len(answer.call.attempts) == 1
        assert len(fault_server.requests) == number
        fault_server.wait_until(lambda: fault_server.open == 0)  # the loop took it along


def test_26_a_loop_that_ends_in_mid_stream_leaves_the_next_one_unharmed(key, fault_server):
    fault_server.script(sse(chunk("Hel"), hang))
    fault_server.always(reply(json=completion("Hello")))
    client = AsyncLunar(api_key=key, base_url=fault_server.origin, max_retries=0)

    async def begin():
        stream = await client.chat.completions.create(**QUESTION, stream=True)
        return (await anext(aiter(stream))).choices[0].delta.content

    async def ask():
        return (await client.chat.completions.create(**QUESTION)).choices[0].message.content

    assert asyncio.run(begin()) == "Hel"
    assert asyncio.run(ask()) == "Hello"
    fault_server.wait_until(lambda: fault_server.open == 0)


READ_ON_IN_A_CHILD = """
    import asyncio, json, os, sys
    from lunar_core import APIStreamError, AsyncLunar, Ledger, Lunar

    kind, origin = sys.argv[1:]
    ledger = Ledger()
    told = dict(api_key="pk", base_url=origin, max_retries=0, timeout=5, observers=[ledger])
    asked = dict(model="m", messages=[dict(role="user", content="Hello!")])

    def judge_child(error):
        os._exit("belongs to the process that opened it" not in str(error) or len(ledger))

    def sync():
        client = Lunar(**told)
        stream = client.chat.completions.create(**asked, stream=True)
        text = next(stream).choices[0].delta.content
        child = os.fork()
        if child == 0:
            try:
                next(stream)
            except APIStreamError as error:
                judge_child(error)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        client.chat.completions.create(**asked)
        return text + "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async def tasks():
        client = AsyncLunar(**told)
        stream = await client.chat.completions.create(**asked, stream=True)
        text = (await anext(stream)).choices[0].delta.content
        child = os.fork()
        if child == 0:
            try:
                await anext(stream)
            except APIStreamError as error:
                judge_child(error)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        await client.chat.completions.create(**asked)
        return text + "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    text = sync() if kind == "sync" else asyncio.run(tasks())
    assert [entry.status for entry in ledger] == ["ok", "ok"]
    print(json.dumps(text))
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_26_a_child_cannot_take_the_rest_of_its_parents_stream(kind, fault_server, run_apart):
    go_on = threading.Event()

    def go(_request):
        go_on.set()
        return reply(json=completion())

    fault_server.script(sse(chunk("Hel"), wait(go_on), *spoken("lo", "!")))
    fault_server.decide(go)
    assert run_apart(READ_ON_IN_A_CHILD, kind, fault_server.origin) == "Hello!"
