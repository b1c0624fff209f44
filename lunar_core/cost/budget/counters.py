"""What is spent and held against a budget: the counters, in memory. A store's are in ``store.py``.

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
"""From so many keys on, those that are long past are looked for."""


@dataclass(frozen=True)
class Hold:
    """What is held for one call. ``start`` names its window's counter; ``is_call``: whether it is one of ``calls``."""

    call_id: str
    key: str | None
    start: float
    amount: int
    at: float
    is_call: bool = True


@dataclass(frozen=True)
class Settlement:
    """What a call came to: ``spent`` in all, of which ``assumed`` is what nobody stated."""

    hold: Hold
    spent: int = 0
    assumed: int = 0


@dataclass
class Sums:
    """Of one counter, or over those of a window. ``oldest``: where the first that holds anything begins."""

    spent: int = 0
    assumed: int = 0
    held: int = 0
    calls: int = 0
    refused: int = 0
    oldest: float | None = None

    def add(self, other: Sums) -> None:
        self.spent += other.spent
        self.assumed += other.assumed
        self.held += other.held
        self.calls += other.calls
        self.refused += other.refused


class Counters(Protocol):
    """Each method is one atomic step. ``now`` says which window is meant, ``limit`` None lets anything through."""

    def reserve(self, hold: Hold, limit: int | None, /) -> tuple[bool, Sums]:
        """Hold the amount if it fits the limit. Whether it did, and what the counters say after that."""

    def settle(self, settlements: Iterable[Settlement], /) -> None:
        """Replace each hold by what the call came to, once; a hold that was given back counts all the same."""

    def refuse(self, hold: Hold, /) -> None:
        """Count a call that was not let through."""

    def write_settled(self) -> None:
        """Return when each settlement of this process can be seen by everybody."""

    def last_seen(self, key: str | None, now: float, /) -> Sums:
        """As this process last saw them, which may be a little late. Only the first look waits."""

    def sums(self, key: str | None, now: float, /) -> Sums: ...
    def all_sums(self, now: float, /) -> dict[str | None, Sums]: ...

    def release(self, key: str | None, before: float, /) -> int:
        """Give back what is held for the key's calls that began before that moment. How many they were."""

    def run(self, work: Callable[[], T], undo: Callable[[], None], /) -> T:
        """Do the work, and wait for it no longer than a store may take. ``undo``: what to do if it ends too late."""

    async def arun(self, work: Callable[[], T], undo: Callable[[], None], /) -> T:
        """The same, where an event loop must not wait; ``undo`` also if the caller was cancelled meanwhile."""

    def wake(self) -> None:
        """A call has ended: have it settled soon. May run in the garbage collector: takes no lock."""

    def begin_child(self) -> None:
        """Make good for a fork, in the child."""


def no_undo() -> None:
    """Nothing needs to be undone."""


class MemoryCounters:
    """The counters of one Budget object."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._keys: dict[str | None, dict[float, Sums]] = {}
        self._most_keys = _KEYS
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()

    def reserve(self, hold: Hold, limit: int | None) -> tuple[bool, Sums]:
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
                if hold is not None and counter is not None:  # else its window is long past
                    counter.held -= hold.amount
                    counter.spent += settlement.spent
                    counter.assumed += settlement.assumed

    def refuse(self, hold: Hold) -> None:
        with self._lock:
            self._counter(hold).refused += 1

    def sums(self, key: str | None, now: float) -> Sums:
        with self._lock:
            return self._sums(key, now)

    def all_sums(self, now: float) -> dict[str | None, Sums]:
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
                self._holds[hold.call_id] = replace(hold, amount=0)  # its call may settle yet
            return len(old)

    def write_settled(self) -> None:
        """There is nobody else to see them."""

    def last_seen(self, key: str | None, now: float) -> Sums:
        return self.sums(key, now)

    def run(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        return work()

    async def arun(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        return work()

    def wake(self) -> None:
        """The next look settles it."""

    def begin_child(self) -> None:
        """In a forked child: what is held is held for calls of the parent's, and so may the lock be."""
        self._lock = threading.Lock()
        self._holds.clear()
        for counters in self._keys.values():
            for counter in counters.values():
                counter.held = 0

    def _sums(self, key: str | None, now: float) -> Sums:
        first, last = self._windows.span(now)
        counters = self._keys.get(key, {})
        total = Sums()
        for start, counter in counters.items():
            if first < start < last:
                total.add(counter)
                if total.oldest is None or start < total.oldest:
                    total.oldest = start
        return total

    def _counter(self, hold: Hold) -> Sums:
        counters = self._keys.get(hold.key)
        if counters is None:
            self._drop_old_keys(hold.start)
            counters = self._keys[hold.key] = {}
        if hold.start not in counters:
            counters[hold.start] = Sums()
            kept = self._windows.kept
            for old in sorted(counters.keys() - {hold.start})[: 0 if kept is None else -kept]:
                del counters[old]
        return counters[hold.start]

    def _drop_old_keys(self, start: float) -> None:
        """Forget the keys that nobody has used for windows, each time that there are twice as many as before."""
        long_past = self._windows.long_past(start)
        if len(self._keys) >= self._most_keys:
            for key in [key for key, counters in self._keys.items() if max(counters) < long_past]:
                del self._keys[key]
            self._most_keys = max(_KEYS, 2 * len(self._keys))
