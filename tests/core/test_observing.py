"""What observers are asked before a call and told after it, through both clients."""

import asyncio
import threading

import pytest

from lunar_core import (
    APIConnectionError,
    APIStreamError,
    AsyncLunar,
    BudgetExceededError,
    InternalServerError,
    Ledger,
    observing,
)
from tests.core.watching import Watching
from tests.faults import nobody_listens
from tests.faults_steps import chunk, close, completion, hang, reply, reset, sse, tell

HELLO = [{"role": "user", "content": "Hello!"}]


def ask(client, model="gpt-4o-mini", **more):
    return client.chat.completions.create(model=model, messages=HELLO, **more)


WAYS = {
    "chat": ask,
    "text": lambda client, **more: client.completions.create(
        model="gpt-4o-mini", prompt="Hello!", **more
    ),
    "router": lambda client, **more: client.router.create(messages=HELLO, **more),
    "decide, then call": lambda client, **more: ask(client, "router", stop=["END"], **more),
}


class Refusing(Watching):
    def before(self, call):
        raise BudgetExceededError("nothing is left")


class Waiting(Watching):
    """One that has an ``abefore`` of its own, which waits until it may go on."""

    def __init__(self):
        super().__init__()
        self.may_go_on, self.is_asked = asyncio.Event(), asyncio.Event()
        self.awaited = []

    async def abefore(self, call):
        self.awaited.append(call)
        self.is_asked.set()
        await self.may_go_on.wait()


# Refused


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_who_let_a_call_through_that_another_refuses_is_told_once(
    connect, fault_server, way, stream
):
    first, ledger, last = Watching(), Ledger(), Watching()
    client = connect(fault_server, observers=[first, ledger, Refusing(), last])
    with pytest.raises(BudgetExceededError) as refused:
        WAYS[way](client, stream=stream)
    (outcome,) = first.outcomes
    assert (outcome.status, outcome.error) == ("refused", refused.value)
    assert (len(ledger), last.starts, last.outcomes) == (0, [], [])
    assert fault_server.requests == []


async def test_abefore_is_awaited_in_place_of_before(fault_server):
    fault_server.always(reply(json=completion("hello")))
    waiting = Waiting()
    async with AsyncLunar("pk_test_1234", base_url=fault_server.origin, observers=[waiting]) as c:
        call = asyncio.create_task(ask(c))
        await waiting.is_asked.wait()
        assert fault_server.requests == []
        waiting.may_go_on.set()
        await call
    assert (len(waiting.awaited), waiting.starts, len(waiting.outcomes)) == (1, [], 1)


def test_the_sync_client_asks_before(fault_server, connect):
    fault_server.always(reply(json=completion("hello")))

    class Both(Watching):
        async def abefore(self, call):
            self.before(call)

    both = Both()
    ask(connect(fault_server, observers=[both]))
    assert len(both.starts) == len(both.outcomes) == 1


async def test_a_call_cancelled_while_one_is_asked_is_refused_for_those_before_it(fault_server):
    first, waiting, last = Watching(), Waiting(), Watching()
    observers = [first, waiting, last]
    async with AsyncLunar("pk_test_1234", base_url=fault_server.origin, observers=observers) as c:
        call = asyncio.create_task(ask(c))
        await waiting.is_asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    (outcome,) = first.outcomes
    assert outcome.status == "refused"
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert (waiting.outcomes, last.starts, last.outcomes) == ([], [], [])
    assert fault_server.requests == []


# Observers of a block


def test_a_block_adds_its_observers_to_any_client(connect, fault_server):
    fault_server.always(reply(json=completion("hello")))
    own, both, added = Watching(), Watching(), Watching()
    client, other = connect(fault_server, observers=[own, both]), connect(fault_server)
    with observing(added, both):
        ask(client)
        ask(other)
    ask(client)
    assert [len(each.outcomes) for each in (own, both, added)] == [2, 3, 2]


def test_a_stream_belongs_to_the_block_in_which_it_was_begun(connect, fault_server):
    fault_server.always(sse(chunk("hello"), chunk(finish="stop")))
    added = Watching()
    client = connect(fault_server)
    with observing(added):
        stream = ask(client, stream=True)
    list(stream)
    assert [outcome.status for outcome in added.outcomes] == ["ok"]


# What came, and what may have been billed


def test_an_outcome_has_what_came_of_the_answer(connect, fault_server, watching):
    client = connect(fault_server, observers=[watching])
    fault_server.script(
        reply(json=completion("whole")),
        sse(chunk("left"), chunk(" unread"), hang),
        [*sse(chunk("broken")), close],
        reply(400),
    )
    ask(client)
    with ask(client, stream=True) as stream:
        next(stream)
    with pytest.raises(APIStreamError):
        list(ask(client, stream=True))
    with pytest.raises(Exception, match="400"):
        ask(client)
    answers = [outcome.answer() for outcome in watching.outcomes]
    assert [a and a.choices[0].message.content for a in answers] == [
        "whole",
        "left",
        "broken",
        None,
    ]


@pytest.fixture
def watching():
    return Watching()


def origin_of_tls_that_fails(server):
    return server.origin.replace("http://", "https://")


UNSENT = {
    "refused": lambda _server: nobody_listens(),
    "unknown host": lambda _server: "http://nowhere.invalid",
    "TLS": origin_of_tls_that_fails,
}


@pytest.mark.parametrize("through", ["our own connections", "httpx"])
@pytest.mark.parametrize("fault", UNSENT)
def test_an_attempt_of_which_no_byte_left_was_not_billed(connect, fault_server, fault, through):
    fault_server.always(close)
    watching = Watching()
    options = {"allow_http": True, "observers": [watching], "timeout": 0.5}
    if through == "httpx":
        options["http_client"] = connect.httpx_client(trust_env=False)
    client = connect(UNSENT[fault](fault_server), **options)
    with pytest.raises(APIConnectionError):
        ask(client)
    (attempt,) = watching.outcomes[0].call.attempts
    assert (attempt.was_sent, attempt.may_be_billed) == (False, False)


@pytest.mark.parametrize(
    "fault",
    [close, reset, hang, [reply(200)[:-2], close]],
    ids=["closed", "reset", "silent", "cut off"],
)
def test_an_attempt_that_was_sent_and_broke_off_may_have_been(connect, fault_server, fault):
    fault_server.always(fault)
    watching = Watching()
    with pytest.raises(APIConnectionError):
        ask(connect(fault_server, observers=[watching], timeout=0.5))
    (attempt,) = watching.outcomes[0].call.attempts
    assert (attempt.was_sent, attempt.may_be_billed) == (True, True)


def test_one_that_the_service_refused_was_not(connect, fault_server):
    fault_server.always(reply(503))
    watching = Watching()
    with pytest.raises(InternalServerError):
        ask(connect(fault_server, observers=[watching]))
    (attempt,) = watching.outcomes[0].call.attempts
    assert (attempt.was_sent, attempt.may_be_billed) == (True, False)


async def test_a_request_that_nobody_waits_for_any_more_is_an_attempt_too(fault_server):
    arrived = threading.Event()
    fault_server.always([tell(arrived), hang])
    watching = Watching()
    async with AsyncLunar("pk_test_1234", base_url=fault_server.origin, observers=[watching]) as c:
        call = asyncio.create_task(ask(c))
        await asyncio.to_thread(arrived.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    (attempt,) = watching.outcomes[0].call.attempts
    assert (attempt.error, attempt.may_be_billed) == ("CancelledError", True)
