"""What it takes to record calls, to have them written, and to add a million of them up."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab import Lab
from report import Row

from lunar_core import CallInfo, Ledger, Outcome, Usage

ROUND = 10_000
"""Outcomes that are recorded between two flushes."""
WRITTEN = 100_000
STORED = 1_000_000


def after(lab: Lab, line: str) -> Iterator[Row]:
    """``Ledger.after``: what a call pays, on its own thread."""
    taken: dict[str, list[float]] = {"memory": [], "SQLite": []}
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "costs.db") as stored:
        for number in range(lab.rounds):
            outcomes = make_outcomes(number * ROUND, ROUND)
            for name, ledger in (("memory", Ledger()), ("SQLite", stored)):
                started = time.thread_time()  # the writer's thread is not the call's
                for outcome in outcomes:
                    ledger.after(outcome)
                taken[name].append(time.thread_time() - started)
                ledger.flush()
    found = {name: statistics.median(figures) for name, figures in taken.items()}
    yield Row(line, "SQLite", "× memory", found["SQLite"] / found["memory"], 2.0)


def written(lab: Lab, line: str) -> Iterator[Row]:
    """How many entries a second are made of outcomes and on disk, in wall time."""
    rates = []
    for _ in range(lab.rounds):
        outcomes = make_outcomes(0, lab.count(WRITTEN))
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.open(Path(folder) / "costs.db") as ledger,
        ):
            started = time.perf_counter()
            for outcome in outcomes:
                ledger.after(outcome)
            ledger.flush()
            rates.append(len(outcomes) / (time.perf_counter() - started))
    yield Row(line, "SQLite", "a second", statistics.median(rates), 20_000, more_is_better=True)


def total(lab: Lab, line: str) -> Iterator[Row]:
    """One look at the sums over all."""
    count = lab.count(STORED)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "costs.db") as ledger:
        for first in range(0, count, ROUND):
            for outcome in make_outcomes(first, min(ROUND, count - first)):
                ledger.after(outcome)
            ledger.flush()
        taken = []
        for _ in range(lab.rounds):
            started = time.perf_counter()
            if ledger.total.calls != count:
                raise RuntimeError("entries are missing")
            taken.append(time.perf_counter() - started)
    yield Row(f"{line} {count:,} entries", "SQLite", "s", statistics.median(taken), 4.0)


def make_outcomes(first: int, count: int) -> list[Outcome]:
    """Calls as a service has them: some models, hundreds of users, a cost of its own each."""
    return [
        Outcome(
            CallInfo(f"call_{number:032d}", "gpt-4o"),
            "chat.completions",
            "ok",
            f"model-{number % 7}",
            "openai",
            Usage(prompt_tokens=10, completion_tokens=20, total_cost_usd=number * 1e-9),
            tags={"user": f"u{number % 500}", "feature": "search"},
        )
        for number in range(first, first + count)
    ]
