"""Many mixed calls, a fifth of them with a fault, against the sandbox: is anything lost, doubled, or leaked?

    python scripts/soak.py [--calls 20000] [--at-once 50] [--streams 1000] [--sides own httpx transport]

Half the calls go through Lunar in threads, half through AsyncLunar in tasks: plain and streamed chat, text,
routed. Then so many streams are open at once. All of that on each side: our own connections (``own``), a client of
httpx's (``httpx``), one that has our transport below it (``transport``). Then the ledger must equal what the
sandbox billed for the answers whose usage arrived; every other bill must belong to a request that the ledger lists
as perhaps billed; and memory, descriptors and threads must be where they were after a tenth of the calls and all of
the streams.
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
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from lunar_core import (
    APIStreamError,
    AsyncLunar,
    AsyncTransport,
    Ledger,
    Lunar,
    LunarError,
    Transport,
    sandbox,
)

SIDES: dict[str, Any] = {
    "own": (None, None),
    "httpx": (httpx.HTTPTransport, httpx.AsyncHTTPTransport),
    "transport": (Transport, AsyncTransport),
}
"""The transports below the clients: none injected, or an httpx client over these."""
LIMITS = httpx.Limits(max_connections=1_000)
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
BEFORE_CONTENT = ["503*1", "502*1", "429=0.01*1", "429-ms=0.01*1", "hangup*1", "reset*1"]
BEFORE_STREAM = [*BEFORE_CONTENT, "error-first*1", "detail-first*1"]
IN_MID_STREAM = ["hangup-mid", "reset-mid", "cut-mid", "error-mid", "detail-mid"]
FOR_GOOD = ["truncated", "html"]


class Case:
    """One call to make: its keywords, its fault, and its possible outcomes."""

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
        """The keywords of ``create()``."""
        headers = {"x-sandbox-fault": self.fault} if self.fault else {}
        headers["idempotency-key"] = uuid.uuid4().hex
        keywords: dict[str, Any] = {
            "extra_headers": headers,
            "stream": self.kind.endswith("stream"),
        }
        if self.kind.startswith("text"):
            return {**keywords, "model": "gpt-4o-mini", "prompt": self.question}
        messages = [{"role": "user", "content": self.question}]
        model = "router" if self.kind.startswith("router") else "gpt-4o-mini"
        return {**keywords, "model": model, "messages": messages}

    def endpoint(self, client: Any) -> Any:
        """The method to call."""
        return client.completions if self.kind.startswith("text") else client.chat.completions


class Score:
    """Counts the outcomes of the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.wrong: list[str] = []
        self.failed = 0

    def judge(self, case: Case, text: str, error: LunarError | None) -> None:
        """Check that an answer is complete, and that a broken stream's text is the beginning of it."""
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
    """Make one call, in a thread."""
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
    """Make one call, in a task."""
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


@contextmanager
def connect(settings: dict[str, Any], side: str) -> Iterator[Lunar]:
    """A Lunar on that side."""
    with ExitStack() as closing:
        client = None
        below = SIDES[side][0]
        if below:
            client = closing.enter_context(httpx.Client(transport=below(limits=LIMITS)))
        yield closing.enter_context(Lunar(**settings, http_client=client))


@asynccontextmanager
async def aconnect(settings: dict[str, Any], side: str) -> AsyncIterator[AsyncLunar]:
    """An AsyncLunar on that side."""
    below = SIDES[side][1]
    if below is None:
        async with AsyncLunar(**settings) as lunar:
            yield lunar
        return
    async with (
        httpx.AsyncClient(transport=below(limits=LIMITS)) as client,
        AsyncLunar(**settings, http_client=client) as lunar,
    ):
        yield lunar


async def run_in_tasks(
    settings: dict[str, Any], side: str, cases: list[Case], at_once: int, score: Score
) -> None:
    """Run the cases through an AsyncLunar."""
    remaining = iter(cases)

    async def work(client: AsyncLunar) -> None:
        for case in remaining:
            await aask(client, case, score)

    async with aconnect(settings, side) as client:
        await asyncio.gather(*(work(client) for _ in range(at_once)))
        tasks = len(asyncio.all_tasks()) - 1
    if tasks:
        score.wrong.append(f"{tasks} tasks are left")


def run_calls(
    settings: dict[str, Any], side: str, cases: list[Case], at_once: int, score: Score
) -> None:
    """Run half of the cases in threads, half in tasks."""
    half = len(cases) // 2
    with connect(settings, side) as client, ThreadPoolExecutor(min(24, at_once)) as threads:
        list(threads.map(lambda case: ask(client, case, score), cases[:half]))
    asyncio.run(run_in_tasks(settings, side, cases[half:], at_once, score))


async def run_streams(settings: dict[str, Any], side: str, count: int, score: Score) -> None:
    """Open ``count`` streams, then read them: none is read further before all have begun."""
    begun, all_have_begun = 0, asyncio.Event()

    async def read(client: AsyncLunar, number: int) -> None:
        nonlocal begun
        text = f"the answer to number {number} and to no other"
        messages = [{"role": "user", "content": f"Repeat: {text}"}]
        stream: Any = await client.chat.completions.create(
            model="gpt-4o-mini", messages=messages, stream=True
        )
        async with stream:
            pieces = [piece_of(await anext(stream))]
            begun += 1
            if begun == count:
                all_have_begun.set()
            await all_have_begun.wait()
            pieces += [piece_of(chunk) async for chunk in stream]
        if "".join(pieces) != text:
            score.wrong.append(f"stream {number} said {''.join(pieces)!r}")

    async with aconnect(settings | {"timeout": 60.0}, side) as client:
        await asyncio.gather(*(read(client, number) for number in range(count)))


def reconcile(ledger: Ledger, bills: list[dict[str, Any]], score: Score) -> None:
    """Check that each bill is in the ledger with all digits, or of a request whose cost was never stated."""
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


def compare_resources(
    before: dict[str, float], after: dict[str, float], entries: int, score: Score
) -> None:
    """Check that nothing is left except the ledger's entries, about 2 kB each."""
    print(f"before {before}\nafter  {after}")
    kept_mib = 2e-3 * entries + 8
    if after["MiB"] > before["MiB"] + kept_mib:
        score.wrong.append(f"memory grew by {after['MiB'] - before['MiB']:.1f} MiB")
    for what in ("descriptors", "threads"):
        if after[what] > before[what]:
            score.wrong.append(f"{after[what] - before[what]} {what} were left")


def run_side(server: sandbox.Sandbox, side: str, options: argparse.Namespace) -> list[str]:
    """Warm up, then make all calls and streams. Returns what went wrong."""
    cases = [Case(number) for number in range(options.calls)]
    settings: dict[str, Any] = {"api_key": server.api_key, "base_url": server.url}
    ledger, score = Ledger(), Score()
    run_calls(settings, side, cases[: max(200, options.calls // 10)], options.at_once, Score())
    asyncio.run(run_streams(settings, side, options.streams, Score()))
    server.reset()
    before, started = resources(), time.perf_counter()
    settings["observers"] = [ledger]
    run_calls(settings, side, cases, options.at_once, score)
    seconds = time.perf_counter() - started
    print(
        f"{side}: {options.calls} calls in {seconds:.0f} s; {score.failed} failed by their faults"
    )
    started = time.perf_counter()
    asyncio.run(run_streams(settings, side, options.streams, score))
    print(f"{options.streams} streams at once in {time.perf_counter() - started:.0f} s")
    compare_resources(before, resources(), len(ledger), score)
    reconcile(ledger, server.billed(), score)
    calls_made = options.calls + options.streams
    # A routed stream has a second entry: the decision, which is no call.
    if ledger.total.calls != calls_made:
        score.wrong.append(f"{calls_made} calls, but {ledger.total.calls} entries")
    return score.wrong


def main() -> int:
    """Run all sides. Returns 0 if nothing was lost, doubled or leaked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args()
    wrong = []
    with sandbox.run() as server:
        for side in options.sides:
            wrong += run_side(server, side, options)
            server.reset()
    print("\n".join(wrong[:20]) or "Nothing lost, nothing doubled, nothing left behind.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
