"""The counters of a budget: what is spent and held. These are in memory; ``store.py`` has those of a store.

Amounts are whole numbers of the budget's smallest unit (10⁻¹² USD, tokens or calls).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from lunar_core.cost.budget.windows import Windows

T = TypeVar("T")

_KEYS = 10_000
"""From this number of keys on, keys that were not used for long are dropped."""


@dataclass(frozen=True)
class Hold:
    """The amount held for one call. ``start``: its window's counter. ``is_call``: whether it counts in ``calls``."""

    call_id: str
    key: str | None
    start: float
    amount: int
    at: float
    is_call: bool = True


@dataclass(frozen=True)
class Settlement:
    """The amount that a call took: ``spent`` in all, of which ``assumed`` was not stated."""

    hold: Hold
    spent: int = 0
    assumed: int = 0


@dataclass
class CounterSums:
    """The sums of one counter, or of those in a window. ``oldest``: the start of the first counter in use."""

    spent: int = 0
    assumed: int = 0
    held: int = 0
    calls: int = 0
    refused: int = 0
    oldest: float | None = None

    def add(self, other: CounterSums) -> None:
        self.spent += other.spent
        self.assumed += other.assumed
        self.held += other.held
        self.calls += other.calls
        self.refused += other.refused


class Counters(Protocol):
    """Each method is one atomic step. ``now`` selects the window. ``limit`` None lets any call through."""

    def reserve(self, hold: Hold, limit: int | None, /) -> tuple[bool, CounterSums]:
        """Hold the amount if it fits the limit. Returns whether it did, and the sums after that."""

    def settle(self, settlements: Iterable[Settlement], /) -> None:
        """Replace each hold by the amount that its call took, once. A released hold still counts."""

    def refuse(self, hold: Hold, /) -> None:
        """Count a call that was not let through."""

    def write_settled(self) -> None:
        """Write the settlements of this process, so that everybody can read them."""

    def last_seen(self, key: str | None, now: float, /) -> CounterSums:
        """The sums as this process last read them, perhaps a little old. Only the first call waits."""

    def sums(self, key: str | None, now: float, /) -> CounterSums: ...
    def all_sums(self, now: float, /) -> dict[str | None, CounterSums]: ...

    def release(self, key: str | None, before: float, /) -> int:
        """Release the holds of the key's calls that began ``before``. Returns how many."""

    def run(self, work: Callable[[], T], undo: Callable[[], None], /) -> T:
        """Do the work, and wait for it no longer than a store may take.

        ``undo``: called if it is interrupted or ends too late.
        """

    async def arun(self, work: Callable[[], T], undo: Callable[[], None], /) -> T:
        """The same without blocking an event loop. ``undo`` is also called if the caller was cancelled."""

    def wake(self) -> None:
        """Settle soon: a call has ended. May run in the garbage collector, so it takes no lock."""

    def begin_child(self) -> None:
        """Start anew in a forked child."""


def no_undo() -> None:
    """Undo nothing."""


class MemoryCounters:
    """The counters of one Budget object."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._keys: dict[str | None, dict[float, CounterSums]] = {}
        self._most_keys = _KEYS
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()

    def reserve(self, hold: Hold, limit: int | None) -> tuple[bool, CounterSums]:
        with self._lock:
            sums = self._sums(hold.key, hold.at)
            if limit is not None and sums.spent + sums.held + hold.amount > limit:
                return False, sums
            counter = self._counter(hold)
            counter.held += hold.amount
            counter.calls += hold.is_call
            self._holds[hold.call_id] = hold
            sums.held += hold.amount
            sums.calls += hold.is_call
            sums.oldest = hold.start if sums.oldest is None else min(sums.oldest, hold.start)
            return True, sums

    def settle(self, settlements: Iterable[Settlement]) -> None:
        with self._lock:
            for settlement in settlements:
                hold = self._holds.pop(settlement.hold.call_id, None)
                counter = None if hold is None else self._keys.get(hold.key, {}).get(hold.start)
                if hold is not None and counter is not None:  # else its window is dropped already
                    counter.held -= hold.amount
                    counter.spent += settlement.spent
                    counter.assumed += settlement.assumed

    def refuse(self, hold: Hold) -> None:
        with self._lock:
            self._counter(hold).refused += 1

    def sums(self, key: str | None, now: float) -> CounterSums:
        with self._lock:
            return self._sums(key, now)

    def all_sums(self, now: float) -> dict[str | None, CounterSums]:
        with self._lock:
            sums = {key: self._sums(key, now) for key in self._keys}
            return {key: key_sums for key, key_sums in sums.items() if key_sums.oldest is not None}

    def release(self, key: str | None, before: float) -> int:
        with self._lock:
            old = [h for h in self._holds.values() if h.key == key and h.at < before and h.amount]
            for hold in old:
                counter = self._keys.get(hold.key, {}).get(hold.start)
                if counter is not None:
                    counter.held -= hold.amount
                self._holds[hold.call_id] = replace(hold, amount=0)  # its call may still settle
            return len(old)

    def write_settled(self) -> None:
        """Do nothing: only this object reads them."""

    def last_seen(self, key: str | None, now: float) -> CounterSums:
        return self.sums(key, now)

    def run(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        try:
            return work()
        except BaseException:  # interrupted
            undo()
            raise

    async def arun(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        try:
            return work()
        except BaseException:  # interrupted
            undo()
            raise

    def wake(self) -> None:
        """Do nothing: the next read settles."""

    def begin_child(self) -> None:
        """Start anew in a forked child: holds are for calls of the parent, and the lock may be held there."""
        self._lock = threading.Lock()
        self._holds.clear()
        for counters in self._keys.values():
            for counter in counters.values():
                counter.held = 0

    def _sums(self, key: str | None, now: float) -> CounterSums:
        first, last = self._windows.span(now)
        counters = self._keys.get(key, {})
        total = CounterSums()
        for start, counter in counters.items():
            if first < start < last:
                total.add(counter)
                if total.oldest is None or start < total.oldest:
                    total.oldest = start
        return total

    def _counter(self, hold: Hold) -> CounterSums:
        counters = self._keys.get(hold.key)
        if counters is None:
            self._drop_old_keys(hold.start)
            counters = self._keys[hold.key] = {}
        if hold.start not in counters:
            counters[hold.start] = CounterSums()
            kept = self._windows.kept
            for old in sorted(counters.keys() - {hold.start})[: 0 if kept is None else -kept]:
                del counters[old]
        return counters[hold.start]

    def _drop_old_keys(self, start: float) -> None:
        """Drop keys that were not used for several windows, each time the number of keys has doubled."""
        long_past = self._windows.long_past(start)
        if len(self._keys) >= self._most_keys:
            for key in [key for key, counters in self._keys.items() if max(counters) < long_past]:
                del self._keys[key]
            self._most_keys = max(_KEYS, 2 * len(self._keys))
