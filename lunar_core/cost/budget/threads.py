"""How a budget uses its store: on one connection, by one thread at a time, for a few seconds at most."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import SimpleQueue
from typing import Any, TypeVar

from lunar_core.cost.store.book import StoredBook
from lunar_core.cost.store.database import PATIENCE
from lunar_core.errors import LedgerError

T = TypeVar("T")


class DriverConnection:
    """A connection of the database driver, opened at its first use and kept open."""

    def __init__(self, book: StoredBook) -> None:
        self._book = book
        self._database = book.database
        self._kept: list[Any] = []  # the connection, if it is open
        weakref.finalize(self, _close_all, self._kept)
        self._begin()
        self._database.on_close(self._close)
        self._database.on_child(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()

    def use(self, work: Callable[[Any], T]) -> T:
        """Call ``work`` with the connection, and return its result. Raises LedgerError if the store fails."""
        with self._database.gate, self._lock_in_time(), self._database.errors("asked"):
            self._book.check_open()
            if self._kept and not self._database.is_sqlite:
                # The server may have closed the idle connection: then try another. A step that runs twice counts once.
                with contextlib.suppress(Exception):
                    return self._try(work)
            return self._try(work)

    @contextlib.contextmanager
    def _lock_in_time(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=PATIENCE):
            raise LedgerError(f"{self._book.shown} could not be asked in time")
        try:
            yield
        finally:
            self._lock.release()

    def _try(self, work: Callable[[Any], T]) -> T:
        if not self._kept:
            self._kept.append(self._database.connect_driver())
        try:
            return work(self._kept[0])
        except BaseException:  # the connection's state is unknown
            _close_all(self._kept)
            raise

    def _close(self) -> None:
        with contextlib.suppress(LedgerError), self._lock_in_time():
            _close_all(self._kept)


def _close_all(connections: list[Any]) -> None:
    while connections:
        with contextlib.suppress(Exception):  # whichever driver's
            connections.pop().close()


class BoundedThread:
    """A thread that works for callers who wait for a few seconds at most.

    Work that its caller no longer waits for is not started; if it has started, it is undone when it ends. The thread is
    a daemon: a store that never answers does not keep a program from ending.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        """Run ``work`` and return its result. Raises what it raises, and LedgerError if it takes too long."""
        future = self._submit(work)
        try:
            return future.result(PATIENCE)
        except BaseException as error:  # noqa: BLE001  # _give_up() returns it to be raised
            raise _give_up(future, undo, error) from None

    async def arun(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        """The same without blocking an event loop. Also calls ``undo`` if the caller is cancelled."""
        future = self._submit(work)
        answer = asyncio.wrap_future(future)
        try:
            # Not asyncio.wait_for, which loses a cancellation that comes with the answer.
            await asyncio.wait([answer], timeout=PATIENCE)
            return answer.result()
        except BaseException as error:  # noqa: BLE001  # _give_up() returns it to be raised
            answer.cancel()
            raise _give_up(future, undo, error) from None

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def answer() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001  # raised by future.result()
                    future.set_exception(error)

        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=_work_off, args=(self._waiting,), name="lunar-budget", daemon=True
                    )
                    self._thread.start()
                    weakref.finalize(self, self._waiting.put, None)
        self._waiting.put(answer)
        return future


def _give_up(future: Future[T], undo: Callable[[], None], error: BaseException) -> BaseException:
    """The error for a caller that stops waiting. Work that was done for it is undone, now or when it ends."""
    is_late = not future.done() and isinstance(error, _TIMEOUTS)
    future.cancel()
    future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo())
    return LedgerError("the store could not be asked in time") if is_late else error


# The errors of a concurrent future, and of an asyncio future without a result after the wait.
_TIMEOUTS = (FutureTimeoutError, asyncio.InvalidStateError)


def _work_off(waiting: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run what is put into the queue, until None is."""
    while (work := waiting.get()) is not None:
        work()
