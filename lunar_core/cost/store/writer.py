"""The thread that writes entries: takes them from a queue, and writes batches, or keeps them until it can."""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from multiprocessing import util

from lunar_core.cost.prices import Prices
from lunar_core.cost.store.batch import write_batch
from lunar_core.cost.store.database import PATIENCE, Database
from lunar_core.cost.store.items import Labels, Recorded, Work
from lunar_core.cost.store.rows import call_key
from lunar_core.errors import LedgerError
from lunar_core.observers import Outcome

logger = logging.getLogger("lunar_core")

MOST_WAITING = 100_000
"""How many entries wait in memory while the store cannot be written."""
REMEMBERED = 10_000
"""For how many calls of this process the entry is known without reading the store."""
_BATCH = 5_000
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
"""Seconds until a batch that failed is tried again."""


class Writer:
    """Writes the queue every ``flush_seconds``, from a thread of its own.

    ``put`` is a single step of the interpreter, because a dropped stream reports from the garbage collector, inside any
    other code of its thread. A reader (the thread, ``flush``, ``find``) first moves the queue to the waiting items,
    under a reentrant lock. Only the writer's thread removes waiting items.
    """

    def __init__(self, database: Database, prices: Prices | None, flush_seconds: float) -> None:
        self._database = database
        self._prices = prices
        self._flush_seconds = flush_seconds
        self._stopping = False
        self._begin()
        database.on_child(self._begin)
        _OPEN.add(self)
        # Children of multiprocessing end without `atexit`, and forget finalizers of their parent.
        self._finish_with_multiprocessing()
        util.register_after_fork(self, Writer._finish_with_multiprocessing)

    def _begin(self) -> None:
        """Start empty: at first, and in a forked child, whose parent writes its own items."""
        self._fresh: deque[Outcome | Recorded | Labels | Work] = deque()
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting: deque[Recorded | Labels | Work] = deque()
        self._recent: dict[str, Recorded] = {}
        self._recent_order: deque[str] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._taken = self._done = 0
        self._failures = self._failures_in_a_row = 0
        self._failure: str | None = None
        self.lost = self._lost_before_flush = 0

    # From any thread

    def put(self, item: Outcome | Recorded | Labels | Work) -> None:
        """Queue an item. Takes no lock and does not wait."""
        self._fresh.append(item)
        self._signal.put(None)

    def wake(self) -> None:
        """Start the thread if it does not run: a forked child has none."""
        if self._thread is None and not self._stopping:
            with self._changed:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="lunar-ledger", daemon=True
                    )
                    self._thread.start()

    def find(self, call_id: str) -> Recorded | None:
        """The recently recorded call of this process with that id, or None."""
        with self._changed:
            self._take_in()
            return self._recent.get(call_key(call_id))

    @property
    def is_failing(self) -> bool:
        """Whether the last batch could not be written."""
        return self._failure is not None

    def wait_for_room(self) -> None:
        """Wait until one more entry fits. Raises LedgerError if that takes too long."""
        self.wake()
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._hurry.set()
                if not self._changed.wait_for(
                    lambda: len(self._waiting) < MOST_WAITING, PATIENCE * 2
                ):
                    raise LedgerError(self._words("there is no room for more entries"))

    def relabel(self, call_id: str, labels: Mapping[str, object]) -> None:
        """Add labels to a call, in the store and in memory."""
        self.wake()
        with self._changed:
            recorded = self.find(call_id)
            if recorded is not None:
                entry = recorded.entry
                recorded.replace(replace(entry, labels={**entry.labels, **labels}))
            self.put(Labels(call_id, labels))

    def flush(self) -> None:
        """Wait until all queued items are on disk. Raises LedgerError if one could not be written, or was lost."""
        self.wake()
        with self._changed:
            self._take_in()
            until, failures = self._taken, self._failures
            if self._done < until:
                self._hurry.set()
                self._signal.put(None)
                self._changed.wait_for(lambda: self._done >= until or self._failures > failures)
            if self._done < until:
                raise LedgerError(self._words("not everything could be written"))
            lost, self._lost_before_flush = self.lost - self._lost_before_flush, self.lost
            if lost:
                raise LedgerError(self._words(f"{lost:,} entries were lost"))

    def unwritten(self) -> list[Recorded]:
        """The calls that wait to be written, in order."""
        with self._changed:
            self._take_in()
            return [item for item in self._waiting if isinstance(item, Recorded)]

    def stop(self) -> None:
        """End the thread after it has written what it can. Takes no lock and does not wait."""
        self._stopping = True
        self._hurry.set()
        self._signal.put(None)

    def close(self) -> None:
        """Write what can be written, and end the thread. Raises LedgerError if something could not be."""
        try:
            if not self._stopping:
                self.flush()
        finally:
            self.stop()
            if self._thread is not None:
                self._thread.join(PATIENCE * 2)

    def _words(self, what: str) -> str:
        return (
            f"{self._database.address.shown}: {what}{f': {self._failure}' if self._failure else ''}"
        )

    def _take_in(self) -> None:
        """Move the queue to the waiting items. Under the lock; the garbage collector may reenter it."""
        while self._fresh:
            try:
                item = self._fresh.popleft()
            except IndexError:
                return
            item = Recorded(item, self._prices) if isinstance(item, Outcome) else item
            if isinstance(item, (Recorded, Labels)) and len(self._waiting) >= MOST_WAITING:
                self._lose(item)
            elif not (isinstance(item, Recorded) and item.call_id in self._recent):  # once per call
                self._waiting.append(item)
                self._taken += 1
                if isinstance(item, Recorded):
                    self._remember(item)

    def _remember(self, item: Recorded) -> None:
        self._recent[item.call_id] = item
        self._recent_order.append(item.call_id)
        if len(self._recent_order) > REMEMBERED:
            self._recent.pop(self._recent_order.popleft(), None)

    def _lose(self, item: Recorded | Labels) -> None:
        if isinstance(item, Recorded):
            if self.lost % 1_000 == 0:
                logger.error(
                    "%s", self._words("too many entries wait; those that come now are lost")
                )
            self.lost += 1

    # The thread

    def _run(self) -> None:
        pause = self._flush_seconds
        while True:
            self._signal.get()
            self._hurry.wait(pause)
            self._hurry.clear()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._signal.get_nowait()
            while self._write_some():
                pass
            pause = self._flush_seconds
            if self._failure is not None:  # what waits is tried again, whether or not more comes
                pause = max(
                    pause, min(_SHORTEST_PAUSE * 2**self._failures_in_a_row, _LONGEST_PAUSE)
                )
                self._signal.put(None)
            if self._stopping:
                return self._end()

    def _write_some(self) -> bool:
        """Write a batch. Returns True if it was written, and there may be more."""
        with self._changed:
            self._take_in()
            batch = list(islice(self._waiting, _BATCH))
        if not batch:
            return False
        try:
            lost = write_batch(self._database, batch)
        except Exception as error:  # noqa: BLE001  # any error is logged, and the batch tried again
            self._fail(self._database.words_of(error))
            return False
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
            self._done += len(batch)
            self.lost += lost
            if self._failure is not None:
                logger.warning("%s can be written again", self._database.address.shown)
            self._failure, self._failures_in_a_row = None, 0
            self._changed.notify_all()
        for item in batch:
            if not isinstance(item, (Recorded, Labels)):
                self._report_written(item)
        return True

    def _fail(self, words: str) -> None:
        with self._changed:
            if self._failure is None:
                logger.error("%s could not be written: %s", self._database.address.shown, words)
            self._failure = words
            self._failures += 1
            self._failures_in_a_row += 1
            self._changed.notify_all()

    def _report_written(self, item: Work) -> None:
        try:
            item.on_written()
        except Exception:  # no error may end the thread
            logger.exception("%s", self._words("the callback for written records failed"))

    def _end(self) -> None:
        """Give up what could not be written: it is lost, and logged."""
        with self._changed:
            self._take_in()
            lost = sum(isinstance(item, Recorded) for item in self._waiting)
            self._waiting.clear()
            self.lost += lost
        if lost:
            logger.error("%s", self._words(f"{lost:,} entries were lost at the end"))
        self._database.close_writer()

    def _finish_with_multiprocessing(self) -> None:
        util.Finalize(self, _close_quietly, args=(weakref.ref(self),), exitpriority=10)


def _close_quietly(reference: weakref.ref[Writer]) -> None:
    writer = reference()
    if writer is not None:
        try:
            writer.close()
        except LedgerError as error:
            logger.error("%s", error)  # noqa: TRY400  # a LedgerError names the store and the cause: no traceback


_OPEN: weakref.WeakSet[Writer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for writer in list(_OPEN):
        _close_quietly(weakref.ref(writer))
