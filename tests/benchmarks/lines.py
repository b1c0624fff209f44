"""The lines of the bench: what each measures, and its target.

A ratio is to plain httpx of the same kind, in processor time unless the line says otherwise.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import batches
import budgets
import ledgers
import loads
import telemetry
from contestants import CORE, LANGCHAIN, LLAMA_INDEX, MODES, REFERENCE, Group
from hazards import HAZARDS
from lab import Lab, Worker, measure_import
from report import Row


@dataclass(frozen=True)
class Line:
    name: str
    measure: Callable[[Lab, str], Iterator[Row]]
    """Takes the lab and the line's name."""


def measure_ratio(
    order: dict[str, Any], targets: dict[Group, tuple[float, float]]
) -> Callable[[Lab, str], Iterator[Row]]:
    """``targets``: of each group, sync and async."""

    def measure(lab: Lab, line: str) -> Iterator[Row]:
        for group, target in targets.items():
            if lab.worker(group.ours) is None:
                continue
            for (mode, sync), limit in zip(MODES.items(), target, strict=True):
                floors = [] if group.floor is None else [group.floor]
                names = [group.ours, *floors, *group.peers]
                ratios = lab.ratios(names, {**order, "sync": sync})
                floor = ratios.pop(floors[0], None) if floors else None
                ours = ratios.pop(group.ours)
                yield Row(
                    f"{line}, {group.ours}", mode, "× httpx", ours, limit, ratios, floor=floor
                )

    return measure


def measure_framing(lab: Lab, line: str) -> Iterator[Row]:
    for mode, size, target in (("one a read", 0, 2.0), ("64 KB reads", 65_536, 1.2)):
        order = {"do": "framing", "count": 5_000, "size": size}
        ratios = lab.ratios([CORE.ours, "openai"], order)
        yield Row(line, mode, "× hand split", ratios.pop(CORE.ours), target, ratios)


def measure_connections(lab: Lab, line: str) -> Iterator[Row]:
    for mode, sync in MODES.items():
        counts: dict[str, float] = {}
        for name, worker in lab.workers([CORE.ours, *CORE.peers]).items():
            before = lab.count_connections()
            streams = lab.count(2_000, name)
            worker.do(do="stream", script="short-9", sync=sync, count=streams, chunks=9)
            counts[name] = lab.count_connections() - before
        label = f"{line} for {lab.count(2_000):,} streams"
        yield Row(label, mode, "connections", counts.pop(CORE.ours), 2, counts)


def measure_stops(lab: Lab, line: str) -> Iterator[Row]:
    """Measure how long other tasks wait, in processor time, so that other programs do not count."""
    for chunks in (3_000, 30_000):
        order = {"do": "stop", "script": f"burst-{chunks}", "chunks": chunks}
        figures = lab.figures([CORE.ours, REFERENCE, *CORE.peers], order)
        millis = {name: statistics.median(seconds) * 1e3 for name, seconds in figures.items()}
        yield Row(f"{line}, {chunks:,} chunks", "async", "ms", millis.pop(CORE.ours), 5, millis)


def measure_big_event(lab: Lab, line: str) -> Iterator[Row]:
    for mode, sync in MODES.items():
        order = {"do": "stream", "script": "event-16384", "sync": sync, "count": 1, "chunks": 1}
        ratios = lab.ratios([CORE.ours, "openai"], order, to="lunar-sdk")
        if ratios:
            yield Row(line, mode, "× lunar-sdk", ratios.pop(CORE.ours), 1.0, ratios)
    for read in (1_400, 65_536):
        order = {"do": "stream", "sync": True, "count": 1, "chunks": 1}
        fifth, whole = (
            statistics.median(
                lab.figures([CORE.ours], {**order, "script": f"event-{read}-{size}"})[CORE.ours]
            )
            for size in (1_000_000, 5_000_000)
        )
        yield Row(f"{line}, {read:,} B reads", "sync", "× 5 of 1 MB", whole / fifth / 5, 1.5)


def measure_construction(lab: Lab, line: str) -> Iterator[Row]:
    for group in (CORE, LANGCHAIN, LLAMA_INDEX):
        if lab.worker(group.ours) is None:
            continue
        figures = lab.figures([group.ours, *group.peers], {"do": "construct", "count": 50})
        millis = {name: statistics.median(seconds) * 1e3 for name, seconds in figures.items()}
        yield Row(f"{line}, {group.ours}", "", "ms", millis.pop(group.ours), 0.1, millis)


def measure_imports(lab: Lab, line: str) -> Iterator[Row]:
    for ours, base, target, peers in IMPORTS:
        figures: dict[str, list[float]] = {}
        for _ in range(lab.rounds):
            base_seconds = measure_import(base)
            for name in (ours, *(peers if lab.has_peers else ())):
                seconds = measure_import(name)
                if base_seconds is not None and seconds is not None:
                    figures.setdefault(name, []).append(seconds / base_seconds)
        ratios = {name: statistics.median(rounds) for name, rounds in figures.items()}
        if ours in ratios:
            library = base.split()[1].partition(".")[0]
            mine = ratios.pop(ours)
            theirs = {name.split()[1]: ratio for name, ratio in ratios.items()}
            yield Row(ours, "", f"× {library}", mine, target, theirs)


IMPORTS: list[tuple[str, str, float | None, tuple[str, ...]]] = [
    ("import lunar_core", "import httpx", 1.2, ("import lunar", "import openai", "import openrouter")),
    ("from lunar_core import Lunar", "import httpx", None, ("import openrouter",)),
    (
        "from langchain_lunar import ChatLunar",
        "from langchain_core.language_models import BaseChatModel",
        1.1,
        (
            "from langchain_openrouter import ChatOpenRouter",
            "from langchain_openai import ChatOpenAI",
            "from lunar.integrations.langchain import ChatLunar",
        ),
    ),
    (
        "from llama_index_lunar import LunarLLM",
        "from llama_index.core.llms.llm import LLM",
        1.1,
        (
            "from llama_index.llms.openrouter import OpenRouter",
            "from llama_index.llms.openai_like import OpenAILike",
            "from lunar.integrations.llamaindex import LunarLLM",
        ),
    ),
]  # fmt: skip


def measure_leak(lab: Lab, line: str) -> Iterator[Row]:
    calls = lab.count(20_000) // 2
    for name in (CORE.ours, LANGCHAIN.ours, LLAMA_INDEX.ours):
        worker = lab.worker(name)
        if worker is None:
            continue
        for mode, sync in MODES.items():
            growth = _measure_growth(worker, calls, sync=sync)
            label = f"{line} of {calls * 2:,} calls, {name}"
            yield Row(label, mode, "bytes a call", max(0.0, growth["rss"] / calls), 10)
            # The collector's own moment decides about a few objects.
            yield Row(label, mode, "objects a call", max(0.0, growth["objects"] / calls), 0.01)
            yield Row(label, mode, "files", growth["files"], 0)


def _measure_growth(worker: Worker, calls: int, *, sync: bool) -> dict[str, int]:
    """The growth over the second half of the calls, because the first half fills the caches."""
    worker.do(do="call", script="call", sync=sync, count=calls)
    before = worker.do(do="footprint")
    worker.do(do="call", script="call", sync=sync, count=calls)
    after = worker.do(do="footprint")
    return {name: after[name] - before[name] for name in before}


def count_hazards(lab: Lab, line: str) -> Iterator[Row]:
    for group in (CORE, LANGCHAIN, LLAMA_INDEX):
        if lab.worker(group.ours) is None:
            continue
        names = [group.ours, *(group.peers if group is CORE else ())]
        for mode, sync in MODES.items():
            counts = {
                name: _count_right(worker, sync=sync) for name, worker in lab.workers(names).items()
            }
            label = f"{line}, {group.ours}"
            yield Row(label, mode, "of 18", counts.pop(group.ours), 18, counts, more_is_better=True)


def _count_right(worker: Worker, *, sync: bool) -> float:
    """How many hazards pass in reads of 1 byte, of 7, and whole."""
    return sum(
        all(_is_right(worker, number, size, sync=sync) for size in (1, 7, 0))
        for number in range(len(HAZARDS))
    )


def _is_right(worker: Worker, number: int, size: int, *, sync: bool) -> bool:
    hazard = HAZARDS[number]
    result = worker.do(do="hazard", script=f"hazard-{number}-{size}", sync=sync)
    return bool(result["text"] == hazard.text and (result["error"] is not None) == hazard.broken)


LINES = [
    Line("call", measure_ratio(
        {"do": "call", "script": "call", "count": 150},
        {CORE: (1.0, 0.8), LANGCHAIN: (1.7, 1.25), LLAMA_INDEX: (1.65, 1.15)},
    )),
    Line("chunk, own read", measure_ratio(
        {"do": "stream", "script": "each-1000", "count": 2, "chunks": 1000},
        {CORE: (0.6, 0.6), LANGCHAIN: (1.45, 1.35), LLAMA_INDEX: (1.7, 1.55)},
    )),
    Line("chunk, 1 ms apart", measure_ratio(
        {"do": "stream", "script": "drip-300-1", "count": 1, "chunks": 300},
        {CORE: (1.1, 1.1), LANGCHAIN: (1.9, 1.95), LLAMA_INDEX: (2.0, 2.0)},
    )),
    Line("chunk, coalesced, 3,000", measure_ratio(
        {"do": "stream", "script": "burst-3000", "count": 2, "chunks": 3000},
        {CORE: (1.2, 1.2), LANGCHAIN: (3.6, 3.6), LLAMA_INDEX: (4.6, 4.6)},
    )),
    Line("chunk, coalesced, 30,000", measure_ratio(
        {"do": "stream", "script": "burst-30000", "count": 1, "chunks": 30_000},
        {CORE: (1.2, 1.2), LANGCHAIN: (3.6, 3.6), LLAMA_INDEX: (4.6, 4.6)},
    )),
    Line("longest stop of the event loop", measure_stops),
    Line("framing", measure_framing),
    Line("first token", measure_ratio(
        {"do": "first", "script": "short-10", "count": 100}, {CORE: (0.95, 1.0)}
    )),
    Line("connections", measure_connections),
    Line("100 in flight", loads.measure_in_flight(100, {"async": 1.8, "threads": 2.4})),
    Line("1,000 in flight", loads.measure_in_flight(1_000, {"async": 20.0})),
    Line("500 at once, 800 ms each", loads.measure_in_flight(500, {"async": 1.5}, millis=800)),
    Line("500 in flight behind a proxy", loads.measure_proxied),
    Line("300 streams on one core", loads.measure_paced_streams),
    Line("first answer of a process", loads.measure_first_answer),
    Line("5 MB request", measure_ratio(
        {"do": "call", "script": "call", "count": 3, "size": 5_000_000}, {CORE: (0.7, 0.7)}
    )),
    Line("5 MB answer", measure_ratio({"do": "call", "script": "big", "count": 3}, {CORE: (0.9, 0.9)})),
    Line("5 MB event", measure_big_event),
    Line("construct", measure_construction),
    Line("import", measure_imports),
    Line("leak", measure_leak),
    Line("hazards", count_hazards),
    Line("ledger, after", ledgers.measure_after),
    Line("ledger, entries written", ledgers.measure_writing),
    Line("ledger, total over", ledgers.measure_total),
    Line("ledger, report over", ledgers.measure_report),
    Line("batch", batches.measure_batch),
    Line("telemetry", telemetry.measure_span),
    Line("budget, a call", budgets.measure_in_memory),
    Line("budget, reservation", budgets.measure_reservation),
]  # fmt: skip
