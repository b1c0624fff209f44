"""Many mixed calls, a fifth of them with a fault, against the sandbox: is anything lost, doubled, or leaked?

    python scripts/soak.py [--calls 20000] [--at-once 50] [--injected]

Half the calls go through Lunar in threads, half through AsyncLunar in tasks: plain and streamed chat, text,
routed. With --injected, an httpx client of the caller's own carries them. Then the ledger must equal what the
sandbox billed for the answers whose usage arrived; every other bill must belong to a request that the ledger
lists as perhaps billed; and memory, descriptors and threads must be where they were after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from lunar_core import APIStreamError, AsyncLunar, Ledger, Lunar, LunarError, sandbox

WORDS = [
    "the",
    "router",
    "reads",
    "each",
    "prompt",
    "and",
    "names",
    "the",
    "model",
    "that",
    "errs",
    "least",
    "for",
    "what",
    "it",
    "costs",
]
BEFORE_CONTENT = ["503*1", "502*1", "429=0.01*1", "429-ms=10*1", "hangup*1", "reset*1"]
BEFORE_STREAM = [*BEFORE_CONTENT, "error-first*1", "detail-first*1"]
IN_MID_STREAM = ["hangup-mid", "reset-mid", "cut-mid", "error-mid", "detail-mid"]
FOR_GOOD = ["truncated", "html"]


class Case:
    """One call to make: its keywords, its fault, and what may come of it."""

    def __init__(self, number: int) -> None:
        rng = random.Random(number)  # noqa: S311  # the same calls in every run
        self.kind = rng.choice(
            ["chat", "chat-stream", "text", "text-stream", "router", "router-stream"]
        )
        self.question = f"Repeat: {' '.join(rng.choices(WORDS, k=12))} {number}"
        self.fault = ""
        if rng.random() < 0.2:
            streamed = self.kind.endswith("stream")
            faults = [*BEFORE_STREAM, *IN_MID_STREAM] if streamed else [*BEFORE_CONTENT, *FOR_GOOD]
            self.fault = rng.choice(faults)
        self.may_fail = self.fault in (*IN_MID_STREAM, *FOR_GOOD)

    @property
    def keywords(self) -> dict[str, Any]:
        """What ``create()`` is given."""
        headers = {"x-sandbox-fault": self.fault} if self.fault else {}
        headers["idempotency-key"] = uuid.uuid4().hex
        asked: dict[str, Any] = {"extra_headers": headers, "stream": self.kind.endswith("stream")}
        if self.kind.startswith("text"):
            return {**asked, "model": "gpt-4o-mini", "prompt": self.question}
        messages = [{"role": "user", "content": self.question}]
        model = "router" if self.kind.startswith("router") else "gpt-4o-mini"
        return {**asked, "model": model, "messages": messages}

    def endpoint(self, client: Any) -> Any:
        """The method to call."""
        return client.completions if self.kind.startswith("text") else client.chat.completions


class Score:
    """What came of the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.wrong: list[str] = []
        self.failed = 0

    def judge(self, case: Case, text: str, error: LunarError | None) -> None:
        """An answer must be whole; what a broken stream had said must be its beginning."""
        if error is None:
            self.answers[case.question] = text
            if case.may_fail:
                self.wrong.append(f"{case.fault}: no error ({case.kind})")
            return
        self.failed += 1
        if not case.may_fail:
            self.wrong.append(f"{case.kind} {case.fault or 'without a fault'}: {error!r}")
        elif isinstance(error, APIStreamError) and text_of(error.partial) != text:
            self.wrong.append(f"{case.kind} {case.fault}: the partial answer is not what was read")


def text_of(completion: Any) -> str:
    """The text of a chat or text completion."""
    choice = completion.choices[0] if completion is not None and completion.choices else None
    return (
        (
            getattr(choice, "text", None)
            or getattr(getattr(choice, "message", None), "content", "")
            or ""
        )
        if choice
        else ""
    )


def piece_of(chunk: Any) -> str:
    """The text of a chunk."""
    choice = chunk.choices[0]
    return (choice.delta.content if hasattr(choice, "delta") else choice.text) or ""


def ask(client: Lunar, case: Case, score: Score) -> None:
    """One call, in a thread."""
    text, failure = "", None
    try:
        answer = case.endpoint(client).create(**case.keywords)
        if case.kind.endswith("stream"):
            for chunk in answer:
                text += piece_of(chunk)
        else:
            text = text_of(answer)
    except LunarError as error:
        failure = error
    score.judge(case, text, failure)


async def aask(client: AsyncLunar, case: Case, score: Score) -> None:
    """One call, in a task."""
    text, failure = "", None
    try:
        answer = await case.endpoint(client).create(**case.keywords)
        if case.kind.endswith("stream"):
            async for chunk in answer:
                text += piece_of(chunk)
        else:
            text = text_of(answer)
    except LunarError as error:
        failure = error
    score.judge(case, text, failure)


def resources() -> dict[str, float]:
    """Memory in MiB, open descriptors, threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return {
        "MiB": memory,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
    }


async def in_tasks(make: Any, cases: list[Case], at_once: int, score: Score) -> None:
    """The cases through an AsyncLunar."""
    waiting = iter(cases)

    async def work(client: AsyncLunar) -> None:
        for case in waiting:
            await aask(client, case, score)

    async with make(AsyncLunar) as client:
        await asyncio.gather(*(work(client) for _ in range(at_once)))
        left = len(asyncio.all_tasks()) - 1
    if left:
        score.wrong.append(f"{left} tasks are left")


def run(make: Any, cases: list[Case], at_once: int, score: Score) -> None:
    """Half in threads, half in tasks."""
    half = len(cases) // 2
    with make(Lunar) as client, ThreadPoolExecutor(min(24, at_once)) as threads:
        list(threads.map(lambda case: ask(client, case, score), cases[:half]))
    asyncio.run(in_tasks(make, cases[half:], at_once, score))


def reconcile(ledger: Ledger, bills: list[dict[str, Any]], score: Score) -> None:
    """Each bill is either in the ledger, to the digit, or of a request that may have been billed unseen."""
    priced, unseen = set(), set()
    nameless = 0
    for entry in ledger:
        for attempt in entry.attempts:
            if attempt.error:
                unseen.add(attempt.request_id)
                nameless += attempt.request_id is None
            elif entry.cost is not None:
                priced.add(attempt.request_id)
    counted = Decimal(0)
    gap = Decimal(0)
    for bill in bills:
        cost = Decimal(repr(bill["total_cost_usd"]))
        if bill["request_id"] in priced:
            counted += cost
        else:
            gap += cost
            if bill["request_id"] not in unseen and nameless == 0:
                score.wrong.append(f"a bill that the ledger knows nothing of: {bill}")
    billed = sum((Decimal(repr(bill["total_cost_usd"])) for bill in bills), Decimal(0))
    print(
        f"billed {billed} USD = ledger {ledger.total_cost} + {gap} of answers whose usage never came"
    )
    print(f"{len(ledger)} entries, {ledger.unpriced} unpriced")
    if counted != ledger.total_cost or billed != ledger.total_cost + gap:
        score.wrong.append(
            f"the ledger says {ledger.total_cost}, the bills for its answers {counted}"
        )


def main() -> int:
    """Run it; 0 if nothing was lost, doubled or leaked."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--calls", type=int, default=20_000)
    options.add_argument("--at-once", type=int, default=50)
    options.add_argument("--injected", action="store_true")
    said = options.parse_args()
    cases = [Case(number) for number in range(said.calls)]
    warm, ledger, score = Ledger(), Ledger(), Score()
    tenth = max(200, said.calls // 10)
    with sandbox.run() as server:

        def make(observer: Ledger) -> Any:
            def client(kind: type[Lunar | AsyncLunar]) -> Any:
                of_httpx = httpx.Client if kind is Lunar else httpx.AsyncClient
                own = of_httpx(trust_env=False) if said.injected else None
                observers = [observer]
                return kind(
                    server.api_key, base_url=server.url, observers=observers, http_client=own
                )

            return client

        run(make(warm), cases[:tenth], said.at_once, Score())
        server.reset()
        before, started = resources(), time.perf_counter()
        run(make(ledger), cases, said.at_once, score)
        seconds, after = time.perf_counter() - started, resources()
        bills = server.billed()
    print(f"{said.calls} calls in {seconds:.0f} s; {score.failed} failed as their faults demanded")
    print(f"before {before}\nafter  {after}")
    reconcile(ledger, bills, score)
    answers = [entry for entry in ledger if entry.endpoint != "router.decide"]
    if len(answers) != said.calls:
        score.wrong.append(f"{said.calls} calls, but {len(answers)} entries")
    # The ledger itself keeps some 1.5 kB a call: that is its job.
    kept_mib = 2e-3 * said.calls + 8
    if after["MiB"] > before["MiB"] + kept_mib:
        score.wrong.append(f"memory grew by {after['MiB'] - before['MiB']:.1f} MiB")
    for what in ("descriptors", "threads"):
        if after[what] > before[what]:
            score.wrong.append(f"{after[what] - before[what]} {what} were left")
    print("\n".join(score.wrong[:20]) or "Nothing lost, nothing doubled, nothing left behind.")
    return 1 if score.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
