"""A budget's promise while calls of every kind fail, are left and cancelled, and a process is killed."""

import signal
import time
from decimal import Decimal

from lunar_core import Budget, Ledger
from tests.ledger.support import finish, start

PROCESS = """
import warnings
from lunar_core import LunarCostWarning
from tests.ledger.mixed_calls import cases, make_calls
url, api_key, limit, reserve, first, count = sys.argv[2:]
warnings.simplefilter("ignore", LunarCostWarning)
todo = cases(3 * int(count))[int(first)::3]
make_calls(where, url, api_key, todo, usd=limit, reserve=reserve)
"""
COUNT = 130
"""Calls of each of the three processes: each way to make a call, and what may become of it, about three times."""


def watch_until_it_is_spent(where, service, limit, reserve):
    """The budget's states from the first call of three processes to the last; one of them is killed on its way."""
    words = [service.url, service.api_key, limit, reserve]
    with Ledger.open(where) as ledger:
        budget = Budget(usd=limit, ledger=ledger)
        killed = start(PROCESS, where, *words, 0, COUNT)
        states = []
        while budget.state().calls < 20:
            assert killed.poll() is None
            time.sleep(0.01)
        others = [start(PROCESS, where, *words, first, COUNT) for first in (1, 2)]
        killed.kill()
        while any(process.poll() is None for process in others):
            states.append(budget.state())
            time.sleep(0.01)
        finish(killed, -signal.SIGKILL)
        for process in others:
            finish(process)
        return [*states, budget.state()]


def test_where_reservations_are_at_least_the_costs_it_is_passed_by_retries_alone(
    where, lunar_sandbox
):
    limit, reserve = Decimal("0.07"), Decimal("0.001")
    states = watch_until_it_is_spent(where, lunar_sandbox, limit, reserve)
    most = max(state.spent + state.held for state in states)
    assert limit - 5 * reserve < most <= limit + above_reservations(where, reserve)
    last = states[-1]
    assert last.refused > 50
    assert last.held > 0  # what the killed process had under way
    requests = lunar_sandbox.requests()
    lunar_sandbox.billed(at_least=sum(each["status"] == 200 for each in requests))
    assert lunar_sandbox.total_billed() <= last.spent + last.held


def test_it_is_passed_by_no_more_than_what_calls_cost_above_their_reservations(
    where, lunar_sandbox
):
    limit, reserve = Decimal("0.003"), Decimal("0.00002")
    states = watch_until_it_is_spent(where, lunar_sandbox, limit, reserve)
    last = states[-1]
    assert last.refused > 50
    most = max(state.spent + state.held for state in states)
    assert most <= limit + above_reservations(where, reserve)


def above_reservations(where, reserve):
    """What calls came to above what was held for them."""
    with Ledger.open(where, read_only=True) as ledger:
        return sum(max(Decimal(0), counted(entry, reserve) - reserve) for entry in ledger)


def counted(entry, reserve):
    """What a budget counts of a call: its cost, or else what was held; and so much for each attempt before it."""
    perhaps = sum(attempt.may_be_billed for attempt in entry.attempts[:-1])
    return (reserve if entry.cost is None else entry.cost) + perhaps * reserve
