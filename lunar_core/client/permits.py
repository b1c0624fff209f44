"""Limits the requests under way: one too many waits until another has ended, or until ``close``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

import httpcore

from lunar_core.client.logs import log_wait

_PORTS = 65_536  # no machine can have more connections to one service


class Permits:
    """Permits for threads. A finalizer may release one at any moment: SimpleQueue takes no Python lock."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        self._is_closed = False
        for _ in range(min(count, _PORTS)):
            self._free.put(None)

    def acquire(self, seconds: float | None) -> None:
        started = time.monotonic()
        try:
            self._free.get(timeout=seconds)
        except Empty:
            raise _none_came_free() from None
        if self._is_closed:
            self._free.put(None)  # wakes the next waiting thread, too
            raise closed_error()
        log_wait(time.monotonic() - started)

    def release(self) -> None:
        self._free.put(None)

    def close(self) -> None:
        self._is_closed = True
        self._free.put(None)


class AsyncPermits:
    """Permits for the tasks of one event loop.

    ``asyncio.wait_for`` around a semaphore is no substitute: when a cancellation and a permit come together, it loses
    one.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    async def acquire(self, seconds: float | None) -> None:
        if self._is_closed:
            raise closed_error()
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        started = time.monotonic()
        timer = None if seconds is None else loop.call_later(seconds, _fail, turn, _none_came_free)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # the permit came together with the cancellation
            raise
        finally:
            if timer is not None:
                timer.cancel()
        log_wait(time.monotonic() - started)

    def release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        self._is_closed = True
        for turn in self._waiting:
            _fail(turn, closed_error)


def _fail(turn: asyncio.Future[None], error: Callable[[], Exception]) -> None:
    if not turn.done():
        turn.set_exception(error())


def _none_came_free() -> httpcore.PoolTimeout:
    return httpcore.PoolTimeout("no connection came free in time")


def closed_error() -> httpcore.ConnectError:
    return httpcore.ConnectError("the client was closed")
