"""Measures a budget's cost for a call: in memory, from ``before`` to the settlement; in a store, the reservation."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab import Lab
from ledgers import make_outcomes
from report import Row

from lunar_core import Budget, CallStart, Ledger, Outcome

IN_MEMORY = 5_000
STORED = 2_000
"""Calls of a round."""


def measure_in_memory(lab: Lab, line: str) -> Iterator[Row]:
    """Measure ``before`` and ``after`` of a call, and its settlement by the next call."""
    seconds = []
    for number in range(lab.rounds):
        budget = Budget(usd=1_000_000, per="user", window="day")
        first, *outcomes = make_outcomes(number * IN_MEMORY, IN_MEMORY)
        budget.before(make_call(first))  # the bundled prices are loaded once
        pairs = [(make_call(outcome), outcome) for outcome in outcomes]
        start = time.thread_time()
        for call, outcome in pairs:
            budget.before(call)
            budget.after(outcome)
        seconds.append((time.thread_time() - start) / len(pairs))
    yield Row(line, "memory", "µs", statistics.median(seconds) * 1e6, 25.0)


def measure_reservation(lab: Lab, line: str) -> Iterator[Row]:
    """Measure ``before`` of a call against a budget in a file."""
    seconds = []
    for number in range(lab.rounds):
        calls = [make_call(outcome) for outcome in make_outcomes(number * STORED, STORED)]
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.open(Path(folder) / "costs.db") as ledger,
        ):
            budget = Budget(usd=1_000_000, window="day", reserve="0.01", ledger=ledger)
            start = time.thread_time()
            for call in calls:
                budget.before(call)
            seconds.append((time.thread_time() - start) / len(calls))
    yield Row(line, "SQLite", "µs", statistics.median(seconds) * 1e6, 150.0)


def make_call(outcome: Outcome) -> CallStart:
    """The CallStart of an outcome's call."""
    params = {"messages": [{"role": "user", "content": "Hello!"}]}
    return CallStart(
        outcome.call.call_id, outcome.endpoint, "gpt-4o-mini", params, tags=outcome.tags
    )
