"""What observers are told, and what it cost: the same to the last digit as the service billed."""

import asyncio
import json
from collections import Counter
from decimal import Decimal

import pytest

from lunar_core import (
    APIStreamError,
    AsyncLunar,
    BudgetExceededError,
    InternalServerError,
    LunarError,
    NotFoundError,
    tags,
)
from tests.core.clients.conftest import HELLO
from tests.faults_steps import reply

documented = pytest.mark.parametrize("sandbox", ["documented"], indirect=True)


def chat(client, model="gpt-4o-mini", **more):
    return client.chat.completions.create(**{"model": model, "messages": HELLO} | more)


# Told once


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_is_told_once_before_and_once_after(streamed, ask, client, watching):
    if streamed:
        stream = ask.stream(client)
        list(stream)
        answer = stream.get_final_completion()
    else:
        answer = ask.plain(client)
    starts, outcomes = watching.starts, watching.outcomes
    assert len(starts) == 1
    (outcome,) = [o for o in outcomes if o.endpoint != "router.decide"]
    assert outcome.call.call_id == starts[0].call_id == answer.call.call_id
    assert (outcome.status, outcome.model, outcome.usage) == ("ok", answer.model, answer.usage)
    assert (outcome.streamed, starts[0].stream) == (streamed, streamed)
    route = getattr(answer, "routing", None)
    assert (outcome.routing and outcome.routing.model_dump()) == (route and route.model_dump())
    decides_first = ask.name == "decide, then call" or (streamed and ask.name == "model=router")
    assert len(outcomes) == (2 if decides_first else 1)


def test_nobody_is_told_of_the_catalogue(client, watching):
    client.models.list()
    client.providers.list()
    client.router.profiles()
    assert (watching.starts, watching.outcomes) == ([], [])


def test_nor_when_it_cannot_be_had(connect, watching, ledger, fault_server):
    client = connect(fault_server, observers=[watching, ledger])
    fault_server.always(reply(500))
    for ask in (client.models.list, client.providers.list, client.router.profiles):
        with pytest.raises(InternalServerError):
            ask()
    assert (watching.starts, watching.outcomes, len(ledger)) == ([], [], 0)


def test_a_decision_is_told_as_what_it_is(client, watching, ledger):
    client.router.decide(messages=HELLO)
    (outcome,) = watching.outcomes
    assert (outcome.endpoint, outcome.usage) == ("router.decide", None)
    assert (ledger.total.calls, ledger.unpriced, len(ledger)) == (0, 0, 1)


def test_a_call_that_fails_is_told_with_its_error(client, watching, ledger):
    with pytest.raises(NotFoundError) as caught:
        chat(client, "nope")
    (outcome,) = watching.outcomes
    assert (outcome.status, outcome.model) == ("failed", "nope")
    assert outcome.error is caught.value
    assert caught.value.call_id == outcome.call.call_id
    assert (ledger.total.calls, ledger.unpriced) == (1, 0)


def test_so_is_a_stream_that_breaks_off_or_is_closed(client, watching):
    stream = chat(client, "gpt-4o!error-mid", stream=True)
    with pytest.raises(APIStreamError) as broken:
        list(stream)
    left = chat(client, stream=True)
    left.close()
    with pytest.raises(APIStreamError) as closed:
        list(left)
    assert [broken.value.call_id, closed.value.call_id] == [stream.call.call_id, left.call.call_id]
    assert [o.call.call_id for o in watching.outcomes] == [stream.call.call_id, left.call.call_id]
    assert [o.status for o in watching.outcomes] == ["failed", "aborted"]


def test_retries_and_fallbacks_are_one_call(client, watching, waits):
    answer = chat(client, "gpt-4o!503", max_retries=1, fallbacks=["gpt-4o-mini"])
    (outcome,) = watching.outcomes
    asked = [(attempt.model, attempt.status_code) for attempt in outcome.call.attempts]
    assert asked == [("gpt-4o!503", 503), ("gpt-4o!503", 503), ("gpt-4o-mini", 200)]
    assert (outcome.model, outcome.call.requested_model) == ("gpt-4o-mini", "gpt-4o!503")
    assert answer.call.attempts == outcome.call.attempts
    assert len(waits) == 1


def test_one_who_refuses_keeps_everything_from_being_sent(connect, sandbox):
    class Budget:
        def before(self, call):
            raise BudgetExceededError(f"{call.model} would pass the budget")

        def after(self, outcome):
            raise AssertionError("a call that was refused has no outcome")

    frugal = connect(sandbox.url, observers=[Budget()])
    for refused in (
        chat,
        lambda c: chat(c, stream=True),
        lambda c: c.router.decide(messages=HELLO),
    ):
        with pytest.raises(BudgetExceededError, match="would pass the budget"):
            refused(frugal)
    assert sandbox.requests() == []


def test_an_observer_that_fails_does_not_cost_the_answer(connect, sandbox, caplog, words):
    class Broken:
        def before(self, call):
            pass

        def after(self, outcome):
            raise OSError("out of disk")

    client = connect(sandbox.url, observers=[Broken()])
    assert words(chat(client)) == "hello to all four of us"
    list(chat(client, stream=True))
    assert ["out of disk" in record.exc_text for record in caplog.records] == [True, True]


def test_tags_name_what_a_call_was_for(client, ledger, ask):
    with tags(user="u1", feature="search"):
        ask.plain(client)
        stream = ask.stream(client)
    with tags(user="u2"):
        list(stream)
        ask.plain(client)
    calls = {user: totals.calls for user, totals in ledger.by_tag("user").items()}
    assert calls == {"u1": 2, "u2": 1}
    assert ledger.by_tag("feature")["search"].calls == 2


# To the last digit


def spend(client, waits):
    """A mixed day: every endpoint, plain and streamed, with faults that pass and some that don't."""
    for model in (
        "gpt-4o",
        "gpt-4o-mini",
        "mistral/mistral-large-latest",
        "o3-mini",
        "claude-3-haiku",
    ):
        chat(client, model)
        list(chat(client, model, stream=True))
    for prompt in ("Write a haiku", "Prove it", "Translate this into French", "1,000 words"):
        turns = [{"role": "user", "content": prompt}]
        client.router.create(messages=turns, cost_weight=0.3)
        list(client.router.create(messages=turns, stream=True))
        chat(client, "router", messages=turns, seed=7)
        client.router.decide(messages=turns)
        client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt)
        list(client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt, stream=True))
    chat(client, "gpt-4o!503*2", max_retries=2)
    chat(client, "gpt-4o!reset", fallbacks=["gpt-4o-mini"])
    list(chat(client, "gpt-4o!error-first", fallbacks=["gpt-4o-mini"], stream=True))
    for model in ("gpt-4o!500", "nope"):
        with pytest.raises(LunarError):
            chat(client, model)


@documented
def test_the_ledger_equals_what_the_service_billed(client, sandbox, ledger, waits):
    spend(client, waits)
    assert ledger.total_cost == sandbox.total_billed() > 0
    assert ledger.unpriced == 0
    billed = Counter()
    for bill in sandbox.billed():
        billed[bill["model"].removeprefix("mistral/")] += Decimal(repr(bill["total_cost_usd"]))
    told = {m: t.cost for m, t in ledger.by_model.items() if t.cost}
    assert told == {model: cost for model, cost in billed.items() if cost}
    tokens = sum(bill["prompt_tokens"] + bill["completion_tokens"] for bill in sandbox.billed())
    assert ledger.total_tokens == tokens


def test_what_the_service_kept_to_itself_is_listed_and_accounts_for_the_gap(
    client, sandbox, ledger, waits
):
    spend(client, waits)
    list(chat(client, stream=True, extra_headers={"x-sandbox-usage": "none"}))
    unsaid = [bill for bill in sandbox.billed() if not bill["usage_sent"]]
    gap = sum((Decimal(repr(bill["total_cost_usd"])) for bill in unsaid), Decimal(0))
    assert ledger.total_cost + gap == sandbox.total_billed()
    assert ledger.unpriced == len(unsaid) > 0


def test_a_stream_that_is_left_or_breaks_off_counts_what_had_been_said_of_it(
    client, sandbox, ledger
):
    every = {"extra_headers": {"x-sandbox-usage": "every"}}
    with pytest.raises(APIStreamError):
        list(chat(client, "gpt-4o!error-mid=3", stream=True, **every))
    with chat(client, "gpt-4o", stream=True, **every) as stream:
        next(stream)
    broken, left = ledger
    assert (broken.status, left.status) == ("failed", "aborted")
    assert broken.completion_tokens == sandbox.billed(at_least=2)[0]["completion_tokens"] == 3
    assert broken.cost == Decimal(repr(sandbox.billed()[0]["total_cost_usd"]))
    assert left.cost is not None
    assert left.cost <= Decimal(repr(sandbox.billed()[1]["total_cost_usd"]))


# Faults that another attempt, or another model, gets over


@pytest.mark.parametrize(
    "fault",
    [
        "429-ms=0.01",
        "429-plain",
        "500",
        "502-html",
        "503-error-object",
        "504-empty",
        "hangup",
        "reset",
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fault_that_passes_is_got_over_by_trying_again(
    fault, streamed, client, sandbox, words, waits
):
    answer = chat(client, f"gpt-4o!{fault}*2", max_retries=2, stream=streamed)
    answer = answer.get_final_completion() if streamed else answer
    assert words(answer) == "hello to all four of us"
    assert len(answer.call.attempts) == len(sandbox.requests()) == 3


@pytest.mark.parametrize(
    ("fault", "streamed"),
    [
        *(
            (fault, streamed)
            for fault in (
                "429-body=9",
                "500",
                "502",
                "hangup",
                "reset",
                "html",
                "empty",
                "no-choices",
            )
            for streamed in (False, True)
        ),
        ("error-first", True),
        ("detail-first", True),
        ("truncated", False),
        ("hangup-mid", False),
    ],
)
def test_one_that_does_not_is_got_over_by_another_model(
    fault, streamed, client, sandbox, words, ledger
):
    answer = chat(client, f"gpt-4o!{fault}", fallbacks=["gpt-4o-mini"], stream=streamed)
    answer = answer.get_final_completion() if streamed else answer
    assert words(answer) == "hello to all four of us"
    assert answer.model == "gpt-4o-mini"
    assert len(sandbox.requests()) == 2
    assert not any("fallbacks" in record["body"] for record in sandbox.requests())
    (entry,) = ledger
    assert entry.model == "gpt-4o-mini"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("ask", ["router", "model=router"], indirect=True)
def test_a_router_that_fails_is_done_without(streamed, ask, client, sandbox, words):
    fault = {"models": ["gpt-4o!500", "gpt-4o-mini!500"], "fallbacks": ["gpt-4-turbo"]}
    answer = ask.stream(client, **fault) if streamed else ask.plain(client, **fault)
    answer = answer.get_final_completion() if streamed else answer
    assert (words(answer), answer.model) == ("hello to all four of us", "gpt-4-turbo")
    paths = [record["path"] for record in sandbox.requests()]
    decides_first = (
        streamed and ask.name == "model=router"
    )  # then the model that was chosen is the one that fails
    assert paths == ["/v1/router", *["/v1/chat/completions"] * (2 if decides_first else 1)]


@documented
@pytest.mark.parametrize("ask", ["router", "model=router"], indirect=True)
def test_the_stream_that_stands_in_for_it_can_be_asked_what_it_cost(ask, client, sandbox, ledger):
    fault = {"models": ["gpt-4o!500", "gpt-4o-mini!500"], "fallbacks": ["gpt-4-turbo"]}
    list(ask.stream(client, **fault, stream_usage=True))
    first, *others = (json.loads(record["body"]) for record in sandbox.requests())
    assert "stream_options" not in first
    assert others[-1]["stream_options"] == {"include_usage": True}
    assert ledger.total_cost == sandbox.total_billed() > 0


def test_when_all_fail_the_last_error_is_raised_and_tells_of_all(client, sandbox):
    with pytest.raises(InternalServerError, match="503") as caught:
        chat(client, "gpt-4o!502", fallbacks=["gpt-4o-mini!500", "gpt-4-turbo!503"])
    assert [a.status_code for a in caught.value.attempts] == [502, 500, 503]
    assert len(sandbox.requests()) == 3


async def break_off(stream):
    async for _ in stream:
        break


async def drop(stream):
    await anext(stream)


async def leave_its_block(stream):
    async with stream:
        await anext(stream)


@documented
@pytest.mark.parametrize("how", [break_off, drop, leave_its_block])
def test_a_stream_that_is_left_as_its_loop_closes_is_told_of_too(sandbox, watching, how):
    """The loop cancels what is still to be done, such as letting go of the connection."""

    async def ask():
        settings = {"base_url": sandbox.url, "observers": [watching]}
        client = AsyncLunar(sandbox.api_key, **settings)
        await how(await chat(client, "gpt-4o", stream=True))

    asyncio.run(ask())
    assert [outcome.status for outcome in watching.outcomes] == ["aborted"]
