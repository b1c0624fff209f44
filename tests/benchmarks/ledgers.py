"""Measures how long it takes to record calls, to write them, and to add a million of them up."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
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


def measure_after(lab: Lab, line: str) -> Iterator[Row]:
    """Measure ``Ledger.after``, the part on the call's own thread."""
    seconds: dict[str, list[float]] = {"memory": [], "SQLite": []}
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "costs.db") as stored:
        for number in range(lab.rounds):
            outcomes = make_outcomes(number * ROUND, ROUND)
            for name, ledger in (("memory", Ledger()), ("SQLite", stored)):
                start = time.thread_time()  # the writer's thread is not the call's
                for outcome in outcomes:
                    ledger.after(outcome)
                seconds[name].append(time.thread_time() - start)
                ledger.flush()
    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    yield Row(line, "SQLite", "× memory", medians["SQLite"] / medians["memory"], 2.0)


def measure_writing(lab: Lab, line: str) -> Iterator[Row]:
    """Measure how many outcomes a second become entries on disk, in wall time."""
    rates = []
    for _ in range(lab.rounds):
        outcomes = make_outcomes(0, lab.count(WRITTEN))
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.open(Path(folder) / "costs.db") as ledger,
        ):
            start = time.perf_counter()
            for outcome in outcomes:
                ledger.after(outcome)
            ledger.flush()
            rates.append(len(outcomes) / (time.perf_counter() - start))
    yield Row(line, "SQLite", "a second", statistics.median(rates), 20_000, more_is_better=True)


def measure_report(lab: Lab, line: str) -> Iterator[Row]:
    """Measure a report with its page, in a process of its own: wall time, and the memory that it adds."""
    for entries, seconds in ((STORED, 20.0), (STORED // 5, 5.0)):
        count = lab.count(entries)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "costs.db"
            with Ledger.open(path) as ledger:
                store(ledger, count)
            process = subprocess.run(
                [sys.executable, "-c", REPORT, str(path)], capture_output=True, check=True
            )
        facts = json.loads(process.stdout)
        name = f"{line} {count:,} entries"
        yield Row(name, "SQLite", "s", facts["seconds"], seconds * count / entries)
        yield Row(name, "SQLite", "MiB more", facts["mib"], 300.0)


REPORT = """
import json, pathlib, sys, time
from lunar_core import Ledger, Prices

def memory(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

Prices.bundled().cost("gpt-4o", prompt_tokens=1, completion_tokens=1)
with Ledger.open(sys.argv[1], read_only=True) as ledger:
    ledger.where(until=0).report().to_html()  # all modules are loaded then
    before, start = memory("VmRSS"), time.perf_counter()
    page = ledger.report(by=["model", "tag:user"]).to_html()
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "mib": memory("VmHWM") - before}))
"""


def measure_total(lab: Lab, line: str) -> Iterator[Row]:
    """Measure one read of the sums over all entries."""
    count = lab.count(STORED)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "costs.db") as ledger:
        store(ledger, count)
        seconds = []
        for _ in range(lab.rounds):
            start = time.perf_counter()
            if ledger.total.calls != count:
                raise RuntimeError("entries are missing")
            seconds.append(time.perf_counter() - start)
    yield Row(f"{line} {count:,} entries", "SQLite", "s", statistics.median(seconds), 4.0)


def store(ledger: Ledger, count: int) -> None:
    """Write ``count`` calls to the store."""
    for first in range(0, count, ROUND):
        for outcome in make_outcomes(first, min(ROUND, count - first)):
            ledger.after(outcome)
        ledger.flush()


def make_outcomes(first: int, count: int) -> list[Outcome]:
    """Realistic calls: some models, hundreds of users, a third routed, each with its own cost and time."""
    return [
        Outcome(
            CallInfo(
                f"call_{number:032d}",
                "router" if number % 3 == 0 else "gpt-4o",
                latency_ms=100.0 + number % 9_973,
            ),
            "chat.completions",
            "ok",
            f"model-{number % 7}",
            "openai",
            Usage(prompt_tokens=number % 1_999, completion_tokens=20, total_cost_usd=number * 1e-9),
            tags={"user": f"u{number % 500}", "feature": "search"},
            candidates=("gpt-4o", "gpt-4o-mini") if number % 3 == 0 else (),
        )
        for number in range(first, first + count)
    ]
