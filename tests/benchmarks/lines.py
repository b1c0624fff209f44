"""What is measured, line by line, with the target of each.

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
import telemetry
from contestants import CORE, LANGCHAIN, LLAMA_INDEX, REFERENCE, Group
from hazards import HAZARDS
from lab import Lab, Worker, import_seconds
from report import Row

MODES = {"sync": True, "async": False}
SERVER_MILLIS = 50


@dataclass(frozen=True)
class Line:
    name: str
    measure: Callable[[Lab, str], Iterator[Row]]
    """Takes the lab and the line's name."""


def ratio(
    order: dict[str, Any], targets: dict[Group, tuple[float, float]]
) -> Callable[[Lab, str], Iterator[Row]]:
    """``targets``: of each group, sync and async."""

    def measure(lab: Lab, line: str) -> Iterator[Row]:
        for group, target in targets.items():
            if lab.worker(group.ours) is None:
                continue
            for (mode, sync), limit in zip(MODES.items(), target, strict=True):
                floors = [] if group.floor is None else [group.floor]
                found = lab.ratios([group.ours, *floors, *group.peers], {**order, "sync": sync})
                floor = found.pop(floors[0], None) if floors else None
                ours = found.pop(group.ours)
                yield Row(f"{line}, {group.ours}", mode, "× httpx", ours, limit, found, floor=floor)

    return measure


def framing(lab: Lab, line: str) -> Iterator[Row]:
    for mode, size, target in (("one a read", 0, 2.0), ("64 KB reads", 65_536, 1.2)):
        order = {"do": "framing", "count": 5_000, "size": size}
        found = lab.ratios([CORE.ours, "openai"], order)
        yield Row(line, mode, "× hand split", found.pop(CORE.ours), target, found)


def first_token(lab: Lab, line: str) -> Iterator[Row]:
    measure = ratio({"do": "first", "script": "short-10", "count": 100}, {CORE: (0.95, 1.0)})
    yield from measure(lab, line)


def connections(lab: Lab, line: str) -> Iterator[Row]:
    for mode, sync in MODES.items():
        opened: dict[str, float] = {}
        for name, worker in lab.workers([CORE.ours, *CORE.peers]).items():
            before = lab.connections()
            streams = lab.count(2_000, name)
            worker.do(do="stream", script="short-9", sync=sync, count=streams, chunks=9)
            opened[name] = lab.connections() - before
        label = f"{line} for {lab.count(2_000):,} streams"
        yield Row(label, mode, "connections", opened.pop(CORE.ours), 2, opened)


def stops(lab: Lab, line: str) -> Iterator[Row]:
    """In processor time, so that what else the machine does is not counted: what other tasks wait for meanwhile."""
    for chunks in (3_000, 30_000):
        order = {"do": "stop", "script": f"burst-{chunks}", "chunks": chunks}
        found = lab.figures([CORE.ours, REFERENCE, *CORE.peers], order)
        millis = {name: statistics.median(taken) * 1e3 for name, taken in found.items()}
        yield Row(f"{line}, {chunks:,} chunks", "async", "ms", millis.pop(CORE.ours), 5, millis)


def in_flight(
    width: int, targets: dict[str, float], *, millis: int = SERVER_MILLIS
) -> Callable[[Lab, str], Iterator[Row]]:
    """Wall time of as many calls at once, by the time that the server takes for each."""

    def measure(lab: Lab, line: str) -> Iterator[Row]:
        for mode, target in targets.items():
            order = {
                "do": "flight",
                "script": f"wait-{millis}",
                "sync": mode == "threads",
                "width": width,
            }
            found = lab.figures([CORE.ours], order)
            # One round is enough to see the multiples that others take, and takes long enough.
            found |= lab.figures([REFERENCE, *CORE.peers], order, 1 if width > 100 else lab.rounds)
            ideal = {
                name: statistics.median(taken) * 1000 / millis for name, taken in found.items()
            }
            yield Row(line, mode, "× ideal, wall", ideal.pop(CORE.ours), target, ideal)

    return measure


def big_event(lab: Lab, line: str) -> Iterator[Row]:
    for mode, sync in MODES.items():
        order = {"do": "stream", "script": "event-16384", "sync": sync, "count": 1, "chunks": 1}
        found = lab.ratios([CORE.ours, "openai"], order, to="lunar-sdk")
        if found:
            yield Row(line, mode, "× lunar-sdk", found.pop(CORE.ours), 1.0, found)
    for read in (1_400, 65_536):
        order = {"do": "stream", "sync": True, "count": 1, "chunks": 1}
        fifth, whole = (
            statistics.median(
                lab.figures([CORE.ours], {**order, "script": f"event-{read}-{size}"})[CORE.ours]
            )
            for size in (1_000_000, 5_000_000)
        )
        yield Row(f"{line}, {read:,} B reads", "sync", "× 5 of 1 MB", whole / fifth / 5, 1.5)


def construct(lab: Lab, line: str) -> Iterator[Row]:
    for group in (CORE, LANGCHAIN, LLAMA_INDEX):
        if lab.worker(group.ours) is None:
            continue
        order = {"do": "construct", "count": 50}
        found = lab.figures([group.ours, *group.peers], order)
        millis = {name: statistics.median(taken) * 1e3 for name, taken in found.items()}
        yield Row(f"{line}, {group.ours}", "", "ms", millis.pop(group.ours), 0.1, millis)


def imports(lab: Lab, line: str) -> Iterator[Row]:
    for ours, base, target, peers in IMPORTS:
        taken: dict[str, list[float]] = {}
        for _ in range(lab.rounds):
            alone = import_seconds(base)
            for name in (ours, *peers):
                seconds = import_seconds(name)
                if alone is not None and seconds is not None:
                    taken.setdefault(name, []).append(seconds / alone)
        found = {name: statistics.median(figures) for name, figures in taken.items()}
        if ours in found:
            short = base.split()[1].partition(".")[0]
            mine = found.pop(ours)
            theirs = {name.split()[1]: figure for name, figure in found.items()}
            yield Row(ours, "", f"× {short}", mine, target, theirs)


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


def leak(lab: Lab, line: str) -> Iterator[Row]:
    calls = lab.count(20_000) // 2
    for name in (CORE.ours, LANGCHAIN.ours, LLAMA_INDEX.ours):
        worker = lab.worker(name)
        if worker is None:
            continue
        for mode, sync in MODES.items():
            grown = _growth(worker, calls, sync=sync)
            label = f"{line} of {calls * 2:,} calls, {name}"
            yield Row(label, mode, "bytes a call", max(0.0, grown["rss"] / calls), 10)
            # The collector's own moment decides about a few objects.
            yield Row(label, mode, "objects a call", max(0.0, grown["objects"] / calls), 0.01)
            yield Row(label, mode, "files", grown["files"], 0)


def _growth(worker: Worker, calls: int, *, sync: bool) -> dict[str, int]:
    """Over the second half of the calls: the first has filled the caches."""
    worker.do(do="call", script="call", sync=sync, count=calls)
    before = worker.do(do="footprint")
    worker.do(do="call", script="call", sync=sync, count=calls)
    after = worker.do(do="footprint")
    return {name: after[name] - before[name] for name in before}


def hazards(lab: Lab, line: str) -> Iterator[Row]:
    for group in (CORE, LANGCHAIN, LLAMA_INDEX):
        if lab.worker(group.ours) is None:
            continue
        names = [group.ours, *(group.peers if group is CORE else ())]
        for mode, sync in MODES.items():
            found = {
                name: _survived(worker, sync=sync) for name, worker in lab.workers(names).items()
            }
            label = f"{line}, {group.ours}"
            yield Row(label, mode, "of 18", found.pop(group.ours), 18, found, more_is_better=True)


def _survived(worker: Worker, *, sync: bool) -> float:
    """How many hazards pass in reads of 1 byte, of 7, and whole."""
    return sum(
        all(_right(worker, number, size, sync=sync) for size in (1, 7, 0))
        for number in range(len(HAZARDS))
    )


def _right(worker: Worker, number: int, size: int, *, sync: bool) -> bool:
    hazard = HAZARDS[number]
    seen = worker.do(do="hazard", script=f"hazard-{number}-{size}", sync=sync)
    return bool(seen["text"] == hazard.text and (seen["error"] is not None) == hazard.broken)


LINES = [
    Line("call", ratio(
        {"do": "call", "script": "call", "count": 150},
        {CORE: (1.0, 0.8), LANGCHAIN: (1.7, 1.25), LLAMA_INDEX: (1.65, 1.15)},
    )),
    Line("chunk, own read", ratio(
        {"do": "stream", "script": "each-1000", "count": 2, "chunks": 1000},
        {CORE: (0.6, 0.6), LANGCHAIN: (1.45, 1.35), LLAMA_INDEX: (1.7, 1.55)},
    )),
    Line("chunk, 1 ms apart", ratio(
        {"do": "stream", "script": "drip-300-1", "count": 1, "chunks": 300},
        {CORE: (1.1, 1.1), LANGCHAIN: (1.9, 1.95), LLAMA_INDEX: (2.0, 2.0)},
    )),
    Line("chunk, coalesced, 3,000", ratio(
        {"do": "stream", "script": "burst-3000", "count": 2, "chunks": 3000},
        {CORE: (1.2, 1.2), LANGCHAIN: (3.6, 3.6), LLAMA_INDEX: (4.6, 4.6)},
    )),
    Line("chunk, coalesced, 30,000", ratio(
        {"do": "stream", "script": "burst-30000", "count": 1, "chunks": 30_000},
        {CORE: (1.2, 1.2), LANGCHAIN: (3.6, 3.6), LLAMA_INDEX: (4.6, 4.6)},
    )),
    Line("longest stop of the event loop", stops),
    Line("framing", framing),
    Line("first token", first_token),
    Line("connections", connections),
    Line("100 in flight", in_flight(100, {"async": 1.8, "threads": 2.4})),
    Line("1,000 in flight", in_flight(1_000, {"async": 20.0})),
    Line("500 at once, 800 ms each", in_flight(500, {"async": 1.5}, millis=800)),
    Line("5 MB request", ratio(
        {"do": "call", "script": "call", "count": 3, "size": 5_000_000}, {CORE: (0.7, 0.7)}
    )),
    Line("5 MB answer", ratio({"do": "call", "script": "big", "count": 3}, {CORE: (0.9, 0.9)})),
    Line("5 MB event", big_event),
    Line("construct", construct),
    Line("import", imports),
    Line("leak", leak),
    Line("hazards", hazards),
    Line("ledger, after", ledgers.after),
    Line("ledger, entries written", ledgers.written),
    Line("ledger, total over", ledgers.total),
    Line("ledger, report over", ledgers.report),
    Line("batch", batches.batch),
    Line("telemetry", telemetry.span),
    Line("budget, a call", budgets.in_memory),
    Line("budget, reservation", budgets.reservation),
]  # fmt: skip
