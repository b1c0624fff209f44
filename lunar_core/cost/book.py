"""The book of a ledger, which keeps its entries: in memory here, in a database in the folder ``store``."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from lunar_core.cost.entries import Entry
from lunar_core.cost.figures import Figures, add_up
from lunar_core.cost.prices import Prices, with_estimate
from lunar_core.cost.savings import SavingsTally
from lunar_core.cost.selection import EVERYTHING, Selection, group_key
from lunar_core.cost.totals import Sums, Totals
from lunar_core.observers import Outcome

Groups = dict[tuple[str | None, ...], Totals]


class Book(Protocol):
    """The entries, one per ``call_id``, in the order in which they came."""

    def record(self, outcome: Outcome, /) -> None:
        """Record the outcome of a call.

        May run in the garbage collector, inside any code of this thread: takes no locks.
        """

    def add(self, entry: Entry, /) -> bool:
        """Add an entry. Returns False if its call is recorded already."""

    def get(self, call_id: str, /) -> Entry | None: ...
    def label(self, call_id: str, labels: Mapping[str, object], /) -> None: ...
    def entries(self, selection: Selection, /) -> Iterator[Entry]: ...
    def count(self, selection: Selection, /) -> int: ...
    def totals(self, selection: Selection, /) -> Totals: ...
    def groups(self, selection: Selection, names: tuple[str, ...], /) -> Groups: ...

    @property
    def prices(self) -> Prices | None:
        """The prices for estimates of answers without a stated cost."""

    def read_figures(self, selection: Selection, figures: Figures, /) -> None:
        """Fill ``figures``, which are empty, with figures of one moment."""

    def read_routed(self, selection: Selection, tally: SavingsTally, /) -> None:
        """Add the routed answers to ``tally``."""


class MemoryBook:
    """The last ``keep`` entries, and running totals of all entries ever.

    ``record`` and ``add`` put an entry into a dict and on a queue, which are single steps of the interpreter. The next
    reader updates the totals, under a lock. A stream that is dropped reports from the garbage collector, which may run
    while its thread holds that lock: so the lock is reentrant.
    """

    def __init__(self, keep: int, prices: Prices | None) -> None:
        self.keep = keep
        self.prices: Prices | None = prices
        self.dropped = 0
        self._kept: dict[str, Entry] = {}
        self._order: deque[str] = deque()
        self._fresh: deque[Entry] = deque()
        self._all = Sums()
        self._models: dict[str, Sums] = {}
        self._tags: dict[str, dict[str, Sums]] = {}
        self._lock = threading.RLock()
        self._folding = False

    def record(self, outcome: Outcome) -> None:
        self.add(with_estimate(Entry.of(outcome), outcome, self.prices))

    def add(self, entry: Entry) -> bool:
        if entry.call_id in self._kept or self._kept.setdefault(entry.call_id, entry) is not entry:
            return False
        self._fresh.append(entry)
        # If nobody ever reads, the entries past `keep` must still be dropped.
        if len(self._fresh) > 1_000 and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()
        return True

    def get(self, call_id: str) -> Entry | None:
        return self._kept.get(call_id)

    def label(self, call_id: str, labels: Mapping[str, object]) -> None:
        with self._lock:
            entry = self._kept.get(call_id)
            if entry is not None:
                self._kept[call_id] = replace(entry, labels={**entry.labels, **labels})

    def entries(self, selection: Selection) -> Iterator[Entry]:
        with self._lock:
            self._fold()
            kept = list(self._kept.values())
        return iter(kept) if selection == EVERYTHING else filter(selection.holds, kept)

    def count(self, selection: Selection) -> int:
        return sum(1 for _ in self.entries(selection))

    def totals(self, selection: Selection) -> Totals:
        if selection != EVERYTHING:
            return Totals.of(self.entries(selection))
        with self._lock:
            self._fold()
            return self._all.totals()

    def groups(self, selection: Selection, names: tuple[str, ...]) -> Groups:
        sums: dict[tuple[str | None, ...], Sums] = {}
        for entry in self.entries(selection):
            key = tuple(group_key(entry, name) for name in names)
            sums.setdefault(key, Sums()).add(entry)
        return {key: group_sums.totals() for key, group_sums in sums.items()}

    def read_figures(self, selection: Selection, figures: Figures) -> None:
        with self._lock:
            entries = self.entries(selection)
            whole, dropped = add_up([self._all]), self.dropped
        figures.add_all(entries)
        if selection == EVERYTHING:
            figures.total, figures.dropped = whole, dropped

    def read_routed(self, selection: Selection, tally: SavingsTally) -> None:
        for entry in self.entries(selection):
            tally.add_entry(entry)

    def by_model(self) -> dict[str, Totals]:
        """Totals of all entries ever, by model."""
        with self._lock:
            self._fold()
            return {name: sums.totals() for name, sums in self._models.items()}

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """Totals of all entries ever, by the value of a tag; None for those without it."""
        with self._lock:
            self._fold()
            values = self._tags.get(name, {})
            rest = self._all
            for sums in values.values():
                rest = rest.minus(sums)
            totals: dict[str | None, Totals] = {
                value: sums.totals() for value, sums in values.items()
            }
            return {**totals, None: rest.totals()} if rest.entries else totals

    def _fold(self) -> None:
        """Update the totals, and drop the oldest entries. Must be called under the lock."""
        if self._folding:
            return  # the garbage collector, in the middle of this very loop
        self._folding = True
        try:
            while self._fresh:
                entry = self._fresh.popleft()
                self._order.append(entry.call_id)
                self._all.add(entry)
                self._models.setdefault(entry.model_name, Sums()).add(entry)
                for name, value in entry.tags.items():
                    self._tags.setdefault(name, {}).setdefault(value, Sums()).add(entry)
            while len(self._order) > self.keep:
                self._kept.pop(self._order.popleft(), None)
                self.dropped += 1
        finally:
            self._folding = False

    def __getstate__(self) -> dict[str, object]:
        with self._lock:
            self._fold()
            state = dict(vars(self))
        del state["_lock"]
        return {**state, "_kept": dict(self._kept), "_order": deque(self._order)}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()
