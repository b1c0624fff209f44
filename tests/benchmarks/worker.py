"""One contestant in a process of its own: reads orders from standard input, and writes how long they took.

Only one worker is at work at any time, so that the processor time of its process is its own cost.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contestants import CONTESTANTS, PROMPT, Contestant
from loopback import WORD, event


class Worker:
    def __init__(self, name: str, origin: str) -> None:
        self.make = CONTESTANTS[name]
        self.origin = origin
        self.loop = asyncio.new_event_loop()
        self.contestants: dict[str, Contestant] = {}
        self.make(f"{origin}/call")  # whatever is missing, is missing here
        self.threads = ThreadPoolExecutor(100)

    def at(self, script: str) -> Contestant:
        """The contestant whose base URL leads to ``script``."""
        if script not in self.contestants:
            self.contestants[script] = self.make(f"{self.origin}/{script}")
        return self.contestants[script]

    def settle(self) -> None:
        """Exclude all objects so far from garbage collection, so that a heavy library is not slower for it."""
        gc.collect()
        gc.freeze()

    # Each of these returns a figure for one unit of work

    def call(self, script: str, sync: bool, count: int, size: int = 0) -> float:
        """Seconds of processor time for each of ``count`` calls."""
        one = self.at(script)
        prompt = "x" * size or PROMPT
        gc.collect()
        if sync:
            start = time.process_time()
            for _ in range(count):
                _check(one.call(prompt))
            return (time.process_time() - start) / count
        return self.loop.run_until_complete(self._acall(one, prompt, count))

    async def _acall(self, one: Contestant, prompt: str, count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            _check(await one.acall(prompt))
        return (time.process_time() - start) / count

    def stream(self, script: str, sync: bool, count: int, chunks: int) -> float:
        """Seconds of processor time for each of the ``chunks`` of ``count`` streams."""
        one = self.at(script)
        gc.collect()
        start = time.process_time()
        for _ in range(count):
            if sync:
                seen = sum(1 for chunk in one.stream() if one.text(chunk))
            else:
                seen = self.loop.run_until_complete(self._astream(one))
            if seen != chunks:
                raise AssertionError(f"{seen} of {chunks} chunks")
        return (time.process_time() - start) / count / chunks

    async def _astream(self, one: Contestant) -> int:
        seen = 0
        async for chunk in await one.astream():
            if one.text(chunk):
                seen += 1
        return seen

    def stop(self, script: str, chunks: int) -> float:
        """The longest time that another task waits for its turn while a stream is read, in processor time."""
        return self.loop.run_until_complete(self._stop(self.at(script), chunks))

    async def _stop(self, one: Contestant, chunks: int) -> float:
        waits: list[float] = []

        async def wait_for_turns() -> None:
            while True:
                start = time.thread_time()
                await asyncio.sleep(0)
                waits.append(time.thread_time() - start)

        waiting = asyncio.create_task(wait_for_turns())
        seen = await self._astream(one)
        waiting.cancel()
        if seen != chunks:
            raise AssertionError(f"{seen} of {chunks} chunks")
        return max(waits)

    def first(self, script: str, sync: bool, count: int) -> float:
        """Seconds until the first text of a stream, the middle one of ``count``; each is read to its end."""
        one = self.at(script)
        gc.collect()
        if sync:
            waits = [self._first(one) for _ in range(count)]
        else:
            waits = self.loop.run_until_complete(self._afirst(one, count))
        return sorted(waits)[count // 2]

    def _first(self, one: Contestant) -> float:
        start, first = time.perf_counter(), 0.0
        for chunk in one.stream():
            if not first and one.text(chunk):
                first = time.perf_counter() - start
        return first

    async def _afirst(self, one: Contestant, count: int) -> list[float]:
        waits = []
        for _ in range(count):
            start, first = time.perf_counter(), 0.0
            async for chunk in await one.astream():
                if not first and one.text(chunk):
                    first = time.perf_counter() - start
            waits.append(first)
        return waits

    def flight(self, script: str, sync: bool, width: int) -> float:
        """Seconds for a wave of ``width`` calls at once. The first wave opens the connections."""
        one = self.at(script)
        gc.collect()
        start = time.perf_counter()
        if sync:
            for text in self.threads.map(one.call, [PROMPT] * width):
                _check(text)
        else:
            self.loop.run_until_complete(self._wave(one, width))
        return time.perf_counter() - start

    def flight_cost(self, script: str, width: int) -> float:
        """Seconds of processor time for each of ``width`` calls at once."""
        one = self.at(script)
        gc.collect()
        start = time.process_time()
        self.loop.run_until_complete(self._wave(one, width))
        return (time.process_time() - start) / width

    async def _wave(self, one: Contestant, width: int) -> None:
        for text in await asyncio.gather(*(one.acall(PROMPT) for _ in range(width))):
            _check(text)

    def crowd(self, script: str, width: int, chunks: int) -> float:
        """Seconds for ``width`` streams at once, on one core."""
        one = self.at(script)
        gc.collect()
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        try:
            start = time.perf_counter()
            counts = self.loop.run_until_complete(self._crowd(one, width))
            seconds = time.perf_counter() - start
        finally:
            os.sched_setaffinity(0, cores)
        if set(counts) != {chunks}:
            raise AssertionError(f"{min(counts)} to {max(counts)} of {chunks} chunks")
        return seconds

    async def _crowd(self, one: Contestant, width: int) -> list[int]:
        return await asyncio.gather(*(self._astream(one) for _ in range(width)))

    def construct(self, count: int) -> float:
        """Seconds of processor time to make a client or a model, its library being loaded."""
        gc.collect()
        start = time.process_time()
        contestants = [self.make(f"{self.origin}/call") for _ in range(count)]
        seconds = (time.process_time() - start) / count / contestants[0].clients
        del contestants
        return seconds

    def framing(self, count: int, size: int) -> float:
        """Seconds of processor time for each of ``count`` events, in reads of one event or of ``size`` bytes."""
        events = [event({"content": WORD})] * count
        whole = b"".join(events)
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)] if size else events
        one = self.at("call")
        start = time.process_time()
        for _ in range(10):
            if one.count_frames(pieces) != count:
                raise AssertionError("an event is missing")
        return (time.process_time() - start) / count / 10

    def footprint(self) -> dict[str, int]:
        gc.collect()
        with open("/proc/self/statm") as statm:  # noqa: PTH123
            pages = int(statm.read().split()[1])
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        return {
            "rss": pages * os.sysconf("SC_PAGE_SIZE"),
            "objects": len(gc.get_objects()),
            "files": files,
        }

    def hazard(self, script: str, sync: bool) -> dict[str, Any]:
        """The text that came, and the error that ended it, if any."""
        one = self.make(f"{self.origin}/{script}")
        text: list[str] = []
        try:
            if sync:
                text.extend(map(one.text, one.stream()))
            else:
                self.loop.run_until_complete(self._texts(one, text))
        except Exception as error:  # noqa: BLE001  # any will do: it was noticed
            return {"text": "".join(text), "error": type(error).__name__}
        return {"text": "".join(text), "error": None}

    async def _texts(self, one: Contestant, text: list[str]) -> None:
        async for chunk in await one.astream():
            text += [one.text(chunk)]  # what came before an error counts


def _check(text: str) -> None:
    if not text:
        raise AssertionError("an empty answer")


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    warnings.simplefilter("ignore")
    try:
        worker = Worker(sys.argv[1], sys.argv[2])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=replies)
        return
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = {"result": getattr(worker, order.pop("do"))(**order)}
        except Exception as error:  # noqa: BLE001  # a library may fail; the others go on
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
