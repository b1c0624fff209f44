"""Calls as budgets meet them: their starts, their outcomes, and prices that are easy to reckon with."""

from lunar_core import (
    Attempt,
    CallInfo,
    CallStart,
    Outcome,
    Usage,
)

HELLO = [{"role": "user", "content": "Hello!"}]


GOOD = Attempt("cheap", 200, None, 0.1)


class Clock:
    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def start(number=0, *, endpoint="chat.completions", model="cheap", models=(), **options):
    params = {"messages": HELLO} | options.pop("params", {})
    return CallStart(f"call_{number}", endpoint, model, params, models=models, **options)


def outcome(number=0, status="ok", *, cost=None, usage=None, attempts=(GOOD,), **options):
    if cost is not None:
        usage = Usage(total_cost_usd=cost)
    told = {"endpoint": "chat.completions", "model": "cheap", "params": {"messages": HELLO}}
    call = CallInfo(f"call_{number}", "cheap", tuple(attempts))
    return Outcome(call, status=status, usage=usage, **told | options)


def spend(budget, number, cost, **options):
    budget.before(start(number, **options))
    budget.after(outcome(number, cost=cost, **options))
