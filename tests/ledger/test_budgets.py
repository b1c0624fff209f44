"""Budgets in a ledger's store: shared by threads, tasks and processes, on SQLite and PostgreSQL."""

import asyncio
import copy
import os
import pickle
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest

from lunar_core import (
    Budget,
    BudgetExceededError,
    CallStart,
    ConfigurationError,
    LedgerError,
    tags,
)
from tests.ledger.support import finish, outcome, start


class Clock:
    def __init__(self, now=1_790_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def call(name, **options):
    params = {"messages": [{"role": "user", "content": "Hello!"}]}
    return CallStart(f"call_{name}", "chat.completions", "gpt-4o-mini", params, **options)


def spend(budget, name, cost, **options):
    budget.before(call(name, **options))
    budget.after(outcome(f"call_{name}", cost))


def test_what_is_spent_and_held_survives_and_is_seen_by_all(opened):
    first = Budget(usd=1, reserve="0.25", ledger=opened())
    spend(first, 1, 0.1)
    first.before(call(2))
    assert first.state().spent == Decimal("0.1")
    second = Budget(usd=1, reserve="0.25", ledger=opened())
    assert second.state() == first.state()
    assert (second.state().held, second.state().calls) == (Decimal("0.25"), 2)
    second.before(call(3))
    with pytest.raises(BudgetExceededError) as refused:
        second.before(call(4)), second.before(call(5))
    assert (refused.value.held, refused.value.spent) == (Decimal("0.75"), Decimal("0.1"))
    assert first.state().refused == 1


def test_settlements_are_written_when_the_ledger_is_flushed_or_closed(opened):
    ledger = opened(flush_seconds=60)
    budget = Budget(usd=1, reserve="0.5", ledger=ledger)
    other = Budget(usd=1, reserve="0.5", ledger=opened())
    spend(budget, 1, 0.1)
    assert other.state().held == Decimal("0.5")
    ledger.flush()
    assert (other.state().held, other.state().spent) == (0, Decimal("0.1"))
    spend(budget, 2, 0.1)
    ledger.close()
    assert (other.state().held, other.state().spent) == (0, Decimal("0.2"))


def test_however_many_calls_end_at_once_each_settlement_is_written_once(opened):
    ledger = opened(flush_seconds=60)
    budget = Budget(calls=1000, ledger=ledger)
    for number in range(200):
        budget.before(call(number))
        budget.after(outcome(f"call_{number}"))
    written = []
    settle = budget._counters._sql.settle
    budget._counters._sql.settle = lambda *words: (written.append(words), settle(*words))
    ledger.flush()
    assert len(written) == 200
    assert (budget.state().spent, budget.state().held) == (200, 0)


def test_they_are_written_within_flush_seconds(opened):
    budget = Budget(usd=1, reserve="0.5", ledger=opened(flush_seconds=0.02))
    other = Budget(usd=1, reserve="0.5", ledger=opened())
    spend(budget, 1, 0.1)
    until = time.monotonic() + 10
    while other.state().held:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert other.state().spent == Decimal("0.1")


def test_this_process_own_are_written_before_it_is_refused(opened):
    budget = Budget(usd=1, reserve=1, ledger=opened(flush_seconds=60))
    for number in range(5):
        spend(budget, number, 0.0)
    assert budget.state().calls == 5


@pytest.mark.parametrize("window", [None, "day", timedelta(hours=1)], ids=str)
def test_of_200_threads_at_once_50_are_let_through(opened, window):
    budgets = [
        Budget(usd=50, reserve=1, window=window, ledger=opened(flush_seconds=0.02))
        for _ in range(2)
    ]

    def ask(worker):
        sent = 0
        for number in range(20):
            name = f"{worker}_{number}"
            budget = budgets[worker % 2]
            try:
                budget.before(call(name))
            except BudgetExceededError:
                continue
            sent += 1
            budget.after(outcome(f"call_{name}", 1.0))
        return sent

    with ThreadPoolExecutor(10) as threads:
        assert sum(threads.map(ask, range(10))) == 50
    for budget in budgets:
        budget.state()
    state = budgets[0].state()
    assert (state.spent, state.held, state.calls, state.refused) == (50, 0, 50, 150)


BURST = """
from lunar_core import Budget, BudgetExceededError
from tests.ledger.test_budgets import call
budget = Budget(usd=50, reserve=1, window={window}, ledger=Ledger.open(where, flush_seconds=0.02))
sent = 0
for number in range(50):
    name = f"{{os.getpid()}}_{{number}}"
    try:
        budget.before(call(name))
    except BudgetExceededError:
        continue
    sent += 1
    budget.after(outcome(f"call_{{name}}", 1.0))
print(sent)
"""


@pytest.mark.parametrize("window", ["None", "__import__('datetime').timedelta(hours=1)"])
def test_of_200_in_processes_50_are_let_through(opened, where, window):
    budget = Budget(
        usd=50,
        window=eval(window),  # noqa: S307  # ours
        ledger=opened(),
    )
    processes = [start(BURST.format(window=window), where) for _ in range(4)]
    assert sum(int(finish(process)) for process in processes) == 50
    state = budget.state()
    assert (state.spent, state.held, state.calls, state.refused) == (50, 0, 50, 150)


async def test_of_200_tasks_50_are_let_through_and_the_loop_goes_on(opened):
    budget = Budget(usd=50, reserve=1, ledger=opened())

    async def ask(number):
        try:
            await budget.abefore(call(number))
        except BudgetExceededError:
            return 0
        await asyncio.sleep(0.001)
        budget.after(outcome(f"call_{number}", 1.0))
        return 1

    assert sum(await asyncio.gather(*map(ask, range(200)))) == 50
    state = budget.state()
    assert (state.spent, state.held) == (50, 0)


def test_a_call_is_settled_once_whoever_writes_it(opened):
    budget = Budget(usd=10, reserve=1, ledger=opened(flush_seconds=0.001))
    for number in range(50):
        budget.before(call(number))
        for _ in range(2):
            budget.after(outcome(f"call_{number}", 0.1))
        assert budget.state().spent == Decimal("0.1") * (number + 1)
    assert budget.state().held == 0


def test_each_key_and_window_has_a_counter_whatever_the_key_is(opened):
    clock = Clock()
    budget = Budget(calls=1, per="user", window="hour", ledger=opened(), clock=clock)
    keys = ["u1", "", "=", "ü 😀", "'; DROP TABLE lunar_budgets; --", "%s :name"]
    for key in keys:
        budget.before(call(key, tags={"user": key}))
    budget.before(call("untagged"))
    assert {key: state.calls for key, state in budget.states().items()} == dict.fromkeys(
        [*keys, None], 1
    )
    budget.before(call("odd", tags={"user": "a\0b\ud800"}))
    assert budget.state("a\0b\ud800").calls == 1
    clock.now += 3600
    budget.before(call("later", tags={"user": "u1"}))


def test_a_clock_set_back_fills_nothing_and_long_past_windows_are_dropped(opened):
    clock = Clock()
    budget = Budget(calls=1, window="hour", ledger=opened(), clock=clock)
    for hour in range(20):
        clock.now = 1_790_000_000.0 + hour * 3600
        budget.before(call(hour))
    clock.now -= 3600
    with pytest.raises(BudgetExceededError):
        budget.before(call("back"))
    with budget._counters._book.database.reading() as connection:
        for table in ("lunar_budgets", "lunar_holds"):
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()  # noqa: S608
            assert count <= 5


def test_a_rolling_window_forgets_what_is_older(opened):
    clock = Clock()
    budget = Budget(calls=2, window=timedelta(minutes=1), ledger=opened(), clock=clock)
    budget.before(call(1))
    clock.now += 30
    budget.before(call(2))
    resets_at = budget.state().resets_at
    for clock.now in (1_790_000_000.0, 1_790_000_060.0):
        with pytest.raises(BudgetExceededError):
            budget.before(call(3))
    clock.now = resets_at
    budget.before(call(4))
    with pytest.raises(BudgetExceededError):
        budget.before(call(5))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tokens": 5}, "unit is 'usd' there"),
        ({"usd": 1, "per": "user"}, "per is None there"),
        ({"usd": 1, "window": "day"}, "window is None there"),
        ({"usd": 1, "timezone": "Europe/Rome"}, "timezone is 'UTC' there"),
    ],
)
def test_a_name_that_means_something_else_in_the_store_is_refused(opened, options, named):
    Budget(usd=1, ledger=opened())
    with pytest.raises(ConfigurationError, match=f"^name: .*{named}"):
        Budget(**options, ledger=opened())
    Budget(**options, name="another", ledger=opened())


def test_the_limit_is_the_objects(opened):
    first = Budget(usd=1, reserve=1, ledger=opened())
    first.before(call(1))
    second = Budget(usd=2, reserve=1, ledger=opened())
    assert second.state().remaining == 1
    second.before(call(2))


def test_it_is_pickled_as_its_settings_and_a_copy_is_itself(opened):
    budget = Budget(usd=1, name="team", per="user", reserve="0.25", ledger=opened())
    budget.before(call(1, tags={"user": "u1"}))
    twin = pickle.loads(pickle.dumps(budget))
    try:
        assert twin is not budget
        assert twin.state("u1") == budget.state("u1")
        assert repr(twin) == repr(budget)
    finally:
        twin._arguments["ledger"].close()
    assert copy.deepcopy([budget])[0] is budget


def test_a_hold_of_a_process_that_was_killed_stays_until_it_is_given_back(opened, where):
    code = """
from lunar_core import Budget
from tests.ledger.test_budgets import call
budget = Budget(usd=1, reserve="0.6", ledger=Ledger.open(where))
budget.before(call("killed"))
print("held", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert finish(start(code, where), -signal.SIGKILL) == "held\n"
    clock = Clock(time.time())
    budget = Budget(usd=1, reserve="0.6", ledger=opened(), clock=clock)
    with pytest.raises(BudgetExceededError):
        budget.before(call(1))
    assert budget.release() == 0
    clock.now += 3601
    assert budget.release() == 1
    assert budget.release() == 0
    budget.before(call(2))
    assert budget.state().held == Decimal("0.6")


def test_a_call_that_settles_after_its_hold_was_given_back_still_counts(opened):
    clock = Clock()
    budget = Budget(usd=1, reserve="0.6", ledger=opened(), clock=clock)
    budget.before(call("slow"))
    clock.now += 3601
    assert budget.release() == 1
    budget.after(outcome("call_slow", 0.5))
    assert (budget.state().spent, budget.state().held) == (Decimal("0.5"), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_settles_its_own_calls_and_not_its_parents(opened):
    budget = Budget(usd=1, reserve="0.1", ledger=opened(flush_seconds=0.02))
    spend(budget, "before", 0.1)
    budget.before(call("of the parent"))
    child = os.fork()
    if child == 0:
        try:
            budget.after(outcome("call_of the parent", 0.5))
            spend(budget, "of the child", 0.2)
            budget._counters._book.flush()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    state = budget.state()
    assert (state.spent, state.held, state.calls) == (Decimal("0.3"), Decimal("0.1"), 3)


async def test_a_call_cancelled_while_the_store_is_asked_leaves_no_hold(opened):
    budget = Budget(usd=100, reserve=1, ledger=opened())
    for pause in range(60):
        asking = asyncio.create_task(budget.abefore(call(pause)))
        await asyncio.sleep(pause * 0.00002)
        asking.cancel()
        try:
            await asking
        except asyncio.CancelledError:
            continue
        budget.after(outcome(f"call_{pause}", 0.0))
    until = time.monotonic() + 10
    while (await asyncio.to_thread(budget.state)).held:  # the last is undone as soon as it is done
        assert time.monotonic() < until


def test_two_of_one_name_on_one_call_count_it_once(opened):
    ledger = opened()
    twins = [Budget(usd=1, reserve="0.4", ledger=ledger) for _ in range(2)]
    for budget in twins:
        budget.before(call(1))
    assert twins[0].state().held == Decimal("0.4")
    for budget in twins:
        budget.after(outcome("call_1", 0.1))
        budget.state()
    assert (twins[0].state().spent, twins[0].state().held) == (Decimal("0.1"), 0)


def test_the_weight_asks_the_store_once_and_then_goes_by_what_this_process_saw(opened):
    other = Budget(usd=1, reserve=0, per="user", ledger=opened())
    spend(other, 1, 0.75, tags={"user": "u1"})
    other.state("u1")
    budget = Budget(usd=1, reserve=0, per="user", ledger=opened())
    weigh = budget.cost_weight()
    with tags(user="u1"):
        assert weigh() == 50
        spend(other, 2, 0.25, tags={"user": "u1"})
        other.state("u1")
        assert weigh() == 50
        spend(budget, 3, 0.0, tags={"user": "u1"})
        assert weigh() == 100
    assert weigh() == 0
    twin = pickle.loads(pickle.dumps(weigh)).budget
    twin._arguments["ledger"].close()
    assert twin.name == "budget"


# The store out of reach


def test_a_closed_ledger_refuses(opened):
    ledger = opened()
    budget = Budget(usd=1, reserve=0, ledger=ledger)
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        budget.before(call(1))


@pytest.fixture
def locked(where):
    """Holds the store's lock until it is called."""
    if "://" in where:
        import psycopg

        connection = psycopg.connect(where)
        connection.execute("LOCK TABLE lunar_budgets, lunar_holds")
    else:
        connection = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")

    def release():
        connection.rollback()

    yield release
    connection.close()


@pytest.fixture
def budget(opened):
    return Budget(usd=1, reserve="0.4", ledger=opened())


async def test_the_event_loop_does_not_wait_for_the_store(budget, locked):
    asking = asyncio.create_task(budget.abefore(call(1)))
    for _ in range(20):
        before = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - before < 1
    assert not asking.done()
    locked()
    await asking


async def test_a_task_is_refused_when_the_store_cannot_be_asked_in_time(budget, locked):
    with pytest.raises(LedgerError):
        await budget.abefore(call(1))
    locked()
    until = time.monotonic() + 10
    while (await asyncio.to_thread(budget.state)).held:
        assert time.monotonic() < until
    await budget.abefore(call(2))


def test_a_call_is_refused_when_the_store_cannot_be_asked_in_time(budget, locked):
    began = time.monotonic()
    with pytest.raises(LedgerError):
        budget.before(call(1))
    assert 4 < time.monotonic() - began < 9
    locked()
    until = time.monotonic() + 10
    while budget.state().held:  # PostgreSQL may have let it through after all: then that is undone
        assert time.monotonic() < until
        time.sleep(0.05)
    budget.before(call(2))


def test_an_outcome_waits_for_nothing_so_that_the_garbage_collector_may_tell_it(budget, locked):
    with budget._settling, budget._counters._connection._lock_in_time():
        began = time.monotonic()
        budget.after(outcome("call_unknown", 0.1))
        assert time.monotonic() - began < 1
    locked()
