"""A budget that refuses or warns, its weight of cost, what it cannot be made of, and who shares it."""

import copy
import gc
import os
import pickle
import threading
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from lunar_core import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    tags,
)
from tests.core.budget_calls import Clock, outcome, spend, start

# What happens to a call that does not fit


def test_the_error_has_all_there_is_to_say_and_can_be_pickled():
    clock = Clock(datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp())
    budget = Budget(usd="0.5", name="team", per="user", window="day", reserve="0.2", clock=clock)
    spend(budget, 1, 0.25, tags={"user": "u1"})
    budget.before(start(2, tags={"user": "u1"}))
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(3, tags={"user": "u1"}))
    for error in (refused.value, pickle.loads(pickle.dumps(refused.value))):
        fields = (error.budget, error.key, error.unit, error.limit, error.spent, error.held)
        assert fields == ("team", "u1", "usd", Decimal("0.5"), Decimal("0.25"), Decimal("0.2"))
        assert (error.asked, error.resets_at) == (Decimal("0.2"), clock.now + 12 * 3600)
        assert str(error) == (
            "budget 'team', user 'u1': this call may take 0.2 USD; of 0.5 USD, 0.25 is spent and 0.2 held "
            "for calls under way; it resets at 2026-03-02 00:00:00 UTC"
        )


def test_of_another_observers_refusal_none_of_it_is_known():
    error = BudgetExceededError("no")
    fields = ["budget", "key", "unit", "limit", "spent", "held", "asked", "resets_at"]
    assert [getattr(error, name) for name in fields] == [None] * len(fields)


def test_a_budget_that_warns_lets_through_counts_and_says_so_once_per_key_and_window(caplog):
    clock = Clock(0.0)
    budget = Budget(calls=1, per="user", window="hour", on_exceed="warn", warn_at=None, clock=clock)
    for key in ("u1", "u2"):
        for number in range(3):
            budget.before(start(f"{key} {number}", tags={"user": key}))
            budget.after(outcome(f"{key} {number}"))
    assert budget.state("u1").spent == budget.state("u1").calls == 3
    assert budget.state("u1").refused == 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "budget 'budget', user 'u1': this call may take 1 call;" in caplog.messages[0]
    clock.now = 3600.0
    for number in range(3):
        budget.before(start(number, tags={"user": "u1"}))
    assert len(caplog.records) == 3


def test_a_function_decides_over_the_error():
    asked = []

    def judge(error):
        asked.append(error)
        return error.key == "vip"

    budget = Budget(calls=0, per="user", on_exceed=judge)
    budget.before(start(1, tags={"user": "vip"}))
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(2, tags={"user": "u1"}))
    assert asked[1] is refused.value
    assert (budget.state("vip").held, budget.state("vip").refused) == (1, 0)
    assert (budget.state("u1").held, budget.state("u1").refused) == (0, 1)


def test_a_share_of_the_limit_is_warned_of_once_in_each_window(caplog):
    clock = Clock(0.0)
    budget = Budget(usd=1, reserve="0.1", window="hour", clock=clock)
    for number in range(10):
        spend(budget, number, 0.1)
        assert len(caplog.records) == (number >= 7)
    assert caplog.messages == ["budget 'budget': 0.8 of 1 usd spent or held"]
    clock.now = 3600.0
    for number in range(10):
        spend(budget, number, 0.1)
    assert len(caplog.records) == 2


# The weight of cost


def test_the_weight_goes_up_from_the_start_to_the_top():
    budget = Budget(usd=1, reserve=0)
    weigh = budget.cost_weight(2, start=0.5, top=102)
    weights = []
    for number in range(6):
        weights.append(weigh())
        spend(budget, number, 0.2)
    assert weights == pytest.approx([2, 2, 2, 22, 62, 102])
    assert budget.state().spent > 1
    assert weigh() == 102


def test_the_weight_is_that_of_the_key_of_the_current_tags():
    budget = Budget(usd=1, per="user", reserve=0)
    spend(budget, 1, 1.0, tags={"user": "u1"})
    weigh = budget.cost_weight()
    with tags(user="u1"):
        assert weigh() == 100
    assert weigh() == 0


def test_held_money_counts_and_a_limit_of_nothing_is_used_up():
    budget = Budget(usd=1, reserve=1)
    budget.before(start())
    assert budget.cost_weight()() == 100
    assert Budget(usd=0).cost_weight(start=1)() == 100


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base": -1}, "base"),
        ({"base": True}, "base"),
        ({"base": "1"}, "base"),
        ({"start": 2}, "start"),
        ({"start": float("nan")}, "start"),
        ({"top": float("inf")}, "top"),
        ({"base": 5, "top": 1}, "top"),
    ],
)
def test_a_weight_that_cannot_work_is_refused(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        Budget(usd=1).cost_weight(**options)


# What cannot work


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "usd, tokens, calls"),
        ({"usd": 1, "calls": 1}, "usd, tokens, calls"),
        ({"usd": -1}, "usd"),
        ({"usd": float("inf")}, "usd"),
        ({"usd": float("nan")}, "usd"),
        ({"usd": "NaN"}, "usd"),
        ({"usd": True}, "usd"),
        ({"usd": "many"}, "usd"),
        ({"usd": 9_000_001}, "usd"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": "5"}, "tokens"),
        ({"tokens": 10**19}, "tokens"),
        ({"calls": True}, "calls"),
        ({"calls": -1}, "calls"),
        ({"calls": 1, "reserve": 2}, "reserve"),
        ({"usd": 1, "reserve": "best"}, "reserve"),
        ({"usd": 1, "reserve": -1}, "reserve"),
        ({"tokens": 1, "reserve": 0.5}, "reserve"),
        ({"usd": 1, "name": ""}, "name"),
        ({"usd": 1, "name": 7}, "name"),
        ({"usd": 1, "name": "a\0"}, "name"),
        ({"usd": 1, "per": ""}, "per"),
        ({"usd": 1, "per": ["user"]}, "per"),
        ({"usd": 1, "window": "year"}, "window"),
        ({"usd": 1, "timezone": "Mars"}, "timezone"),
        ({"usd": 1, "ledger": "costs.db"}, "ledger"),
        ({"usd": 1, "prices": {}}, "prices"),
        ({"usd": 1, "unpriced": "ask"}, "unpriced"),
        ({"usd": 1, "on_exceed": "stop"}, "on_exceed"),
        ({"usd": 1, "on_exceed": None}, "on_exceed"),
        ({"usd": 1, "warn_at": 2}, "warn_at"),
        ({"usd": 1, "warn_at": True}, "warn_at"),
        ({"usd": 1, "clock": 5.0}, "clock"),
    ],
)
def test_what_cannot_work_is_named(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        Budget(**options)


@pytest.mark.parametrize("now", [float("nan"), float("inf")])
def test_a_clock_that_tells_no_time_is_named(now):
    with pytest.raises(ConfigurationError, match=r"^clock: "):
        Budget(usd=1, reserve=1, clock=lambda: now).before(start())


@pytest.mark.parametrize("usd", ["0.1", 0.1, Decimal("0.1")])
def test_money_is_read_at_the_door_as_it_was_written(usd):
    assert Budget(usd).limit == Decimal("0.1")


# Copies, threads and the garbage collector


def test_a_copy_is_the_budget_itself_and_there_is_no_pickle():
    budget = Budget(usd=1)
    assert copy.copy(budget) is copy.deepcopy(budget) is copy.deepcopy([budget])[0] is budget
    with pytest.raises(TypeError, match="ledger="):
        pickle.dumps(budget)


def test_two_of_one_name_share_nothing_in_memory():
    first, second = Budget(calls=1), Budget(calls=1)
    first.before(start(1))
    second.before(start(1))
    assert first.state().calls == second.state().calls == 1


def test_an_outcome_told_by_the_garbage_collector_does_not_wait_for_this_very_thread():
    """A stream that is dropped reports wherever the collector happens to run: here, under the budget's lock."""
    budget = Budget(calls=10)
    budget.before(start("dropped"))

    class Dropped:
        def __del__(self):
            budget.after(outcome("dropped"))

    class Collecting(dict):
        """In the middle of the counters: what is dropped there is reported there."""

        def get(self, *args):
            nonlocal dropped
            if dropped is not None:
                dropped = None
                gc.collect()
            return super().get(*args)

    dropped = Dropped()
    budget._counters._keys = Collecting(budget._counters._keys)
    done = threading.Thread(target=budget.before, args=[start("next")], daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert dropped is None
    state = budget.state()
    assert (state.spent, state.held, state.calls) == (1, 1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_holds_nothing_for_its_parents_calls_and_waits_for_no_lock_of_theirs():
    budget = Budget(calls=1)
    budget.before(start("of the parent"))
    with budget._settling, budget._counters._lock:
        child = os.fork()
        if child == 0:
            budget.after(outcome("of the parent"))
            state = budget.state()
            budget.before(start("of the child"))
            os._exit(0 if (state.held, state.spent) == (0, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert budget.state().held == 1


def test_what_it_is_can_be_read():
    assert repr(Budget(usd="1.50", per="user")) == "Budget(usd='1.5', name='budget', per='user')"
    assert repr(Budget(calls=3, name="agent")) == "Budget(calls=3, name='agent')"
