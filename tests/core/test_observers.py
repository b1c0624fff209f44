"""Tags, and what observers are told: pure parts. That both clients tell it is tested with the clients."""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from lunar_core import (
    AsyncLunar,
    BudgetExceededError,
    CallInfo,
    ConfigurationError,
    Ledger,
    Lunar,
    LunarError,
    Observer,
    Outcome,
    RoutingDecision,
    Usage,
    current_tags,
    observing,
    tags,
)
from lunar_core.client.call import Runtime
from lunar_core.client.notices import CostNotice
from lunar_core.client.planner import Planner
from lunar_core.settings import Settings
from lunar_core.types.completions import RoutedCompletion

HELLO = [{"role": "user", "content": "Hello!"}]


# Tags


def test_blocks_nest_and_the_inner_value_wins():
    with tags(user="u1", feature="search"):
        with tags(user="u2"):
            assert current_tags() == {"user": "u2", "feature": "search"}
        assert current_tags() == {"user": "u1", "feature": "search"}
    assert current_tags() == {}


def test_a_block_that_fails_takes_its_tags_along():
    with pytest.raises(RuntimeError), tags(user="u1"):
        raise RuntimeError
    assert current_tags() == {}


def test_values_become_text():
    with tags(user=7, trial=True):
        assert current_tags() == {"user": "7", "trial": "True"}


def test_what_was_read_does_not_change_the_block():
    with tags(user="u1"):
        current_tags()["user"] = "u2"
        assert current_tags() == {"user": "u1"}


async def test_tasks_carry_the_tags_of_the_block_they_were_started_in():
    async def read():
        await asyncio.sleep(0)
        with tags(inner="yes"):
            return current_tags()

    with tags(user="u1"):
        first = asyncio.create_task(read())
    with tags(user="u2"):
        second = asyncio.create_task(read())
    assert await first == {"user": "u1", "inner": "yes"}
    assert await second == {"user": "u2", "inner": "yes"}
    assert current_tags() == {}


def test_threads_have_their_own_unless_the_context_is_given_to_them():
    seen = []

    def look():
        seen.append(current_tags())

    with tags(user="u1"), ThreadPoolExecutor(1) as threads:
        context = contextvars.copy_context()
        threads.submit(look).result()
        threads.submit(context.run, look).result()
    assert seen == [{}, {"user": "u1"}]


# Being told


class Watching:
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def before(self, call):
        self.told.append(call)

    def after(self, outcome):
        self.told.append(outcome)


class Refusing(Watching):
    def before(self, call):
        raise BudgetExceededError("this would pass the budget")


class Failing(Watching):
    def after(self, outcome):
        raise RuntimeError("out of disk")


def begun(*observers, clock=lambda: 0.0, **params):
    """A call that has begun."""
    settings = Settings.resolve(api_key="pk_live_5d1c0e77")
    planner = Planner(settings, observers, Runtime(clock, clock, lambda: 0.0), CostNotice())
    call, _plan = planner.chat({"model": "gpt-4o-mini", "messages": HELLO} | params)
    call.begin()
    return call


def test_before_tells_what_would_be_sent():
    watching = Watching()
    with tags(user="u1"):
        call = begun(watching, stream=True, temperature=0.5)
    (start,) = watching.told
    assert (start.call_id, start.endpoint, start.model) == (
        call.call_id,
        "chat.completions",
        "gpt-4o-mini",
    )
    assert (start.params["temperature"], start.params["messages"]) == (0.5, HELLO)
    assert (start.stream, start.tags) == (True, {"user": "u1"})
    assert "Hello!" not in repr(start)


def test_the_first_to_refuse_ends_it_and_those_who_let_it_through_are_told():
    first, refusing, last = Watching(), Refusing(), Watching()
    with pytest.raises(BudgetExceededError) as refused:
        begun(first, refusing, last)
    start, outcome = first.told
    assert (outcome.status, outcome.error) == ("refused", refused.value)
    assert outcome.call.call_id == start.call_id == refused.value.call_id
    assert (refusing.told, last.told) == ([], [])


def test_a_ledger_records_nothing_of_a_call_that_was_refused():
    ledger = Ledger()
    with pytest.raises(BudgetExceededError):
        begun(ledger, Refusing())
    assert len(ledger) == 0


def test_whatever_refuses_those_before_it_are_told():
    class Interrupted(Watching):
        def before(self, call):
            raise KeyboardInterrupt

    first = Watching()
    with pytest.raises(KeyboardInterrupt):
        begun(first, Interrupted())
    assert first.told[-1].status == "refused"
    assert isinstance(first.told[-1].error, KeyboardInterrupt)


# Observers of a block


def test_the_observers_of_a_block_come_after_the_clients_own_and_each_is_told_once():
    order = []

    class Ordered(Watching):
        def before(self, call):
            order.append(self)

    own, both, outer, inner = Ordered(), Ordered(), Ordered(), Ordered()
    with observing(outer, both), observing(inner, outer):
        call = begun(own, both)
    assert order == [own, both, outer, inner]
    call.abort()
    assert [len(observer.told) for observer in (own, both, outer, inner)] == [1, 1, 1, 1]
    begun(own)
    assert order == [own, both, outer, inner, own]


async def test_tasks_carry_the_observers_of_the_block_they_were_started_in():
    first, second = Watching(), Watching()

    async def call():
        await asyncio.sleep(0)
        begun()

    with observing(first):
        one = asyncio.create_task(call())
    with observing(second):
        two = asyncio.create_task(call())
    await asyncio.gather(one, two)
    assert len(first.told) == len(second.told) == 1


def test_a_block_takes_observers_only():
    with pytest.raises(ConfigurationError, match=r"^observers: "):
        observing(Ledger)


# What a call says of itself


ROUTED = {"model": "router", "models": ["gpt-4o", "gpt-4o-mini"], "cost_weight": 0.5}


@pytest.mark.parametrize(
    ("params", "models"),
    [
        ({}, ("gpt-4o-mini",)),
        ({"fallbacks": ["gpt-4o", "gpt-4o-mini"]}, ("gpt-4o-mini", "gpt-4o")),
        (ROUTED, ("gpt-4o", "gpt-4o-mini")),
        (ROUTED | {"fallbacks": ["gpt-4"]}, ("gpt-4o", "gpt-4o-mini", "gpt-4")),
        (ROUTED | {"stop": ["END"]}, ("gpt-4o", "gpt-4o-mini")),
        ({"model": "router"}, ()),
        ({"model": "router", "fallbacks": ["gpt-4"]}, ()),
    ],
)
def test_a_call_names_every_model_that_may_answer(params, models):
    watching = Watching()
    begun(watching, **params)
    assert watching.told[0].models == models


@pytest.mark.parametrize("more", [{}, {"stop": ["END"]}], ids=["one request", "decide, then call"])
def test_an_outcome_tells_what_was_asked_and_what_the_router_was_told(more):
    watching = Watching()
    begun(watching, **ROUTED, **more).abort()
    start, outcome = watching.told
    assert outcome.params == start.params
    assert (outcome.candidates, outcome.cost_weight) == (("gpt-4o", "gpt-4o-mini"), 0.5)
    assert outcome.answer() is None
    assert "Hello!" not in repr(outcome)


# cost_weight as a function


@pytest.mark.parametrize("more", [{}, {"stop": ["END"]}], ids=["one request", "decide, then call"])
def test_a_function_is_asked_for_the_weight_once_with_the_tags_of_the_call(more):
    asked, watching = [], Watching()

    def weigh():
        asked.append(current_tags())
        return 20

    with tags(user="u1"):
        begun(watching, **ROUTED | {"cost_weight": weigh}, **more).abort()
    assert asked == [{"user": "u1"}]
    assert watching.told[1].cost_weight == 20


def test_a_function_is_not_asked_where_nothing_is_routed():
    begun(cost_weight=lambda: 1 / 0)


@pytest.mark.parametrize("wrong", [-1, "1", None, True, float("nan")])
def test_what_a_function_returns_is_checked_as_a_number_is(wrong):
    with pytest.raises(ConfigurationError, match=r"^cost_weight: "):
        begun(**ROUTED | {"cost_weight": lambda: wrong})


def test_every_call_has_its_own_name():
    assert begun().call_id != begun().call_id


def test_tags_are_those_of_when_the_call_was_made():
    watching = Watching()
    with tags(user="u1"):
        call = begun(watching)
    with tags(user="u2"):
        call.abort()
    assert watching.told[-1].tags == {"user": "u1"}


def test_an_outcome_is_told_once():
    watching = Watching()
    call = begun(watching)
    call.abort()
    call.abort()
    call.fail(LunarError("late"))
    assert [type(told) for told in watching.told[1:]] == [Outcome]
    assert watching.told[-1].status == "aborted"


def test_an_observer_that_fails_keeps_nobody_else_from_being_told(caplog):
    first, last = Watching(), Watching()
    begun(first, Failing(), last).abort()
    assert len(first.told) == len(last.told) == 2
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("lunar_core", "ERROR")
    assert "out of disk" in record.exc_text


def test_so_does_one_that_is_interrupted(caplog):
    class Interrupted(Watching):
        def after(self, outcome):
            raise KeyboardInterrupt

    first, last = Watching(), Watching()
    with pytest.raises(KeyboardInterrupt), caplog.at_level("INFO", logger="lunar_core"):
        begun(first, Interrupted(), last).abort()
    assert len(first.told) == len(last.told) == 2
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_failed_call_tells_its_error_and_every_attempt():
    watching = Watching()
    call = begun(watching)
    error = call.fail(LunarError("503: overloaded"))
    outcome = watching.told[-1]
    assert (outcome.status, outcome.error, outcome.usage) == ("failed", error, None)
    assert outcome.model == "gpt-4o-mini"
    assert error.attempts == outcome.call.attempts


def test_a_decision_is_an_outcome_of_its_own_beside_the_call_that_follows():
    ledger, watching = Ledger(), Watching()
    call = begun(ledger, watching, model="router", stop=["END"])
    route = RoutingDecision(selected_model="gpt-4o", selected_provider="openai")
    answer = RoutedCompletion(routing=route, choices=[], usage=Usage(total_cost_usd=0.00001))
    assert call.accept_decision(answer) == "gpt-4o"
    call.abort()
    decided, called = watching.told[1:]
    assert (decided.endpoint, decided.model, decided.status) == ("router.decide", "gpt-4o", "ok")
    assert decided.call.call_id == f"{called.call.call_id}.route"
    assert (called.endpoint, called.status) == ("chat.completions", "aborted")
    assert (ledger.total.calls, ledger.unpriced, str(ledger.total_cost)) == (1, 1, "0.00001")


def test_time_is_told_in_milliseconds_from_the_clients_own_clock():
    now = iter([10.0, 10.25])
    watching = Watching()
    begun(watching, clock=lambda: next(now)).abort()
    assert watching.told[-1].call.latency_ms == 250.0


def test_a_ledger_and_any_class_of_two_methods_is_an_observer():
    observers: list[Observer] = [Ledger(), Watching()]
    begun(*observers).abort()
    assert len(observers[0]) == 1


@pytest.mark.parametrize(
    "wrong",
    [7, "ledger", Ledger(), [Ledger], [7], [None]],
    ids=["number", "text", "no list", "class", "numbers", "nothing"],
)
@pytest.mark.parametrize("kind", [Lunar, AsyncLunar])
def test_what_is_no_list_of_observers_is_refused(kind, wrong):
    """A bare Ledger is iterable, and empty: nothing would be written down."""
    with pytest.raises(ConfigurationError, match=r"^observers: "):
        kind(api_key="pk_live_5d1c0e77", observers=wrong)


def test_outcomes_are_values():
    call = CallInfo(call_id="call_1", headers={"x-request-id": "req_7"})
    outcome = Outcome(call, "router", "ok", "gpt-4o")
    assert outcome == Outcome(call, "router", "ok", "gpt-4o")
    assert "req_7" not in repr(outcome)
