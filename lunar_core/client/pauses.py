"""Waits between the attempts of a call, which end early when the client is closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from queue import Empty, SimpleQueue

import anyio

from lunar_core.client.responses import running_loop


class Pauses:
    """Waits of threads. No Python lock is held, so that a fork can inherit none."""

    def __init__(self) -> None:
        self._end: SimpleQueue[None] = SimpleQueue()

    def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or at once when ``end`` is called, also if it was before."""
        with suppress(Empty):
            self._end.get(timeout=seconds)
            self._end.put(None)  # wakes the next waiting thread, too

    def end(self) -> None:
        """End all waits, from any thread."""
        self._end.put(None)


class AsyncPauses:
    """Waits of tasks, in any number of event loops."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or as soon as ``end`` is called."""
        loop = running_loop()
        if loop is None:  # trio's, under a client of the caller's own, whose calls go on
            return await anyio.sleep(seconds)
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._waiting.add(pause)
        try:
            return await pause
        finally:
            timer.cancel()
            self._waiting.discard(pause)

    def end(self) -> None:
        """End all waits that have begun, from any thread."""
        for pause in list(self._waiting):
            with suppress(RuntimeError):  # its loop has ended, and nobody waits
                pause.get_loop().call_soon_threadsafe(_end, pause)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
