"""The items of the writer's queue: calls, labels of calls, and other work for the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Connection

from lunar_core.cost.entries import Entry
from lunar_core.cost.prices import Prices, with_estimate
from lunar_core.cost.store.rows import call_key
from lunar_core.observers import Outcome


class Work(Protocol):
    """Something that is written in the same transaction as the entries, such as a budget's settlement.

    Pass it to ``Writer.put``, which takes no lock and never waits, so that an observer's ``after`` may call it. Items
    are written in order, within ``flush_seconds``, or before ``Writer.flush`` returns.
    """

    def write(self, connection: Connection, /) -> None:
        """Write it, in the writer's thread. Called again after a failed transaction, so change nothing else."""

    def on_written(self) -> None:
        """Called in the writer's thread when the transaction is on disk. Its exceptions are logged."""


class Recorded:
    """A call to write: holds its outcome until the entry is needed, then the entry."""

    __slots__ = ("_entry", "_outcome", "_prices", "call_id")

    def __init__(self, source: Outcome | Entry, prices: Prices | None = None) -> None:
        self._outcome = source if isinstance(source, Outcome) else None
        self._entry = source if isinstance(source, Entry) else None
        self._prices = prices
        self.call_id = call_key(
            source.call.call_id if isinstance(source, Outcome) else source.call_id
        )

    @property
    def entry(self) -> Entry:
        """The entry, made at the first access, with an estimate if it has no stated cost."""
        entry, outcome = self._entry, self._outcome
        if entry is None:
            if outcome is None:  # another thread has just made it
                return self.entry
            entry = with_estimate(Entry.of(outcome), outcome, self._prices)
        self.replace(entry)
        return entry

    def replace(self, entry: Entry) -> None:
        """Write another entry of the same call instead."""
        self._entry, self._outcome = entry, None


class Labels:
    """Labels to add to the entry of a call."""

    __slots__ = ("call_id", "labels")

    def __init__(self, call_id: str, labels: Mapping[str, object]) -> None:
        self.call_id = call_key(call_id)
        self.labels = labels
