"""The counters of a budget in a ledger's store, shared by every process that opens it.

A hold is a row of ``lunar_holds`` until its call is settled. Whoever deletes the row counts the call, so that it counts
once, whatever is written twice. A released hold keeps its row, with amount 0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from lunar_core.cost.budget import sql
from lunar_core.cost.budget.counters import CounterSums, Hold, Settlement, no_undo
from lunar_core.cost.budget.threads import BoundedThread, DriverConnection
from lunar_core.cost.budget.windows import Windows
from lunar_core.cost.entries import plain_text
from lunar_core.cost.store.book import StoredBook
from lunar_core.cost.store.rows import call_key
from lunar_core.errors import ConfigurationError

logger = logging.getLogger("lunar_core")

T = TypeVar("T")

_SEEN = 10_000
"""For how many keys the last sums are kept."""
_ANYTHING = 2**63 - 1
_LONG_PAST = 400 * 86_400.0
"""Seconds. Older counters of unused keys are deleted."""


class StoredCounters:
    """One budget's counters in a store. ``collect`` passes what has ended to ``settle``."""

    def __init__(
        self,
        book: StoredBook,
        windows: Windows,
        collect: Callable[[], None],
        *,
        name: str,
        unit: str,
        per: str | None,
        limit: int,
    ) -> None:
        self._book = book
        self._name = name
        period = windows.period
        self._what = {
            "unit": unit,
            "per": per,
            "window": f"{period:g} s" if isinstance(period, float) else period,
            "timezone": windows.zone_name,
        }
        self._limit = limit
        self._windows = windows
        self._collect = collect
        is_sqlite = book.database.is_sqlite
        self._sql = sql.SQLiteSQL() if is_sqlite else sql.PostgresSQL()
        self._connection = DriverConnection(book)
        self._begin()

    def _begin(self) -> None:
        self._thread = BoundedThread()
        self._is_queued = False  # with the ledger's writer
        self._pending: dict[str, Settlement] = {}
        self._writing: list[Settlement] = []  # by the writer's thread alone
        self._seen: OrderedDict[str | None, tuple[float, CounterSums]] = OrderedDict()
        self._seeing = threading.Lock()
        self._has_met = self._has_swept = False

    # Steps

    def meet(self) -> None:
        """Check that the stored budget of this name has the same settings. Raises ConfigurationError."""
        if not self._has_met:
            stored = self._connection.use(self._meet)
            if stored != self._what:
                differing = ", ".join(
                    f"{key} is {value!r} there"
                    for key, value in stored.items()
                    if value != self._what[key]
                )
                raise ConfigurationError(
                    f"name: the store has a budget {self._name!r} that is another one: {differing}"
                )
            self._has_met = True

    def reserve(self, hold: Hold, limit: int | None) -> tuple[bool, CounterSums]:
        self.meet()
        self._book.wake()
        row = self._row(hold) | {"at_most": _ANYTHING if limit is None else limit}
        is_admitted, sums = self._connection.use(lambda c: self._sql.reserve(c, row))
        if self._see(hold.key, hold.start, sums):
            self._drop_old(hold)
        return is_admitted, sums

    def settle(self, settlements: Iterable[Settlement]) -> None:
        for settlement in settlements:
            hold = settlement.hold
            self._pending[hold.call_id] = settlement
            with self._seeing:
                start, sums = self._seen.get(hold.key, (math.nan, CounterSums()))
                if start == hold.start:
                    sums.held -= hold.amount
                    sums.spent += settlement.spent

    def write_settled(self) -> None:
        settlements = list(self._pending.values())
        if settlements:
            self._connection.use(lambda c: self._write_now(c, settlements))
            self._forget(settlements)

    def refuse(self, hold: Hold) -> None:
        self._connection.use(lambda c: sql.refuse(self._sql, c, self._row(hold)))

    def sums(self, key: str | None, now: float) -> CounterSums:
        self.meet()
        span = self._span(key, now)
        sums = self._connection.use(lambda c: sql.read_sums(self._sql, c, span))
        self._see(key, self._windows.start(now), sums)
        return sums

    def all_sums(self, now: float) -> dict[str | None, CounterSums]:
        self.meet()
        span = self._span(None, now)
        rows = self._connection.use(lambda c: sql.read_all_sums(self._sql, c, span))
        return {_key_of(text): sums for text, sums in rows}

    def last_seen(self, key: str | None, now: float) -> CounterSums:
        start = self._windows.start(now)
        with self._seeing:
            seen = self._seen.get(key)
            if seen is not None:
                return replace(seen[1]) if seen[0] == start else CounterSums()
        return self.run(lambda: self.sums(key, now), no_undo)

    def release(self, key: str | None, before: float) -> int:
        self.meet()
        values = {"name": self._name, "key": _text_of(key), "before": before}
        return self._connection.use(lambda c: sql.release(self._sql, c, values))

    # Waiting

    def run(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        if self._book.database.is_sqlite:
            return work()  # SQLite's driver has a timeout of its own
        return self._thread.run(work, undo)

    async def arun(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        return await self._thread.arun(work, undo)

    def wake(self) -> None:
        """Write what has ended soon. Takes no lock: a call may end in the garbage collector."""
        if not self._is_queued:  # one piece of work settles all that has ended by then
            self._is_queued = True
            self._book.writer.put(self)

    def begin_child(self) -> None:
        self._begin()

    # As ``Work`` of the ledger's writer

    def write(self, connection: Connection) -> None:
        """Write what has ended, in the transaction of the entries."""
        self._is_queued = False  # what ends from here on needs another write
        try:
            self._collect()
        except Exception:  # no failure may hold up the entries
            logger.exception("the budget %r could not settle its calls", self._name)
        self._writing = list(self._pending.values())
        driver = connection.connection.driver_connection
        for row in self._settlement_rows(self._writing):
            self._sql.settle(driver, row)

    def on_written(self) -> None:
        """Forget the settlements: they are on disk."""
        self._forget(self._writing)

    # Details

    def _meet(self, connection: Any) -> dict[str, str | None]:
        key, value = f"budget {self._name}", json.dumps(self._what)
        values = {"key": key, "value": value}
        stored: dict[str, str | None] = json.loads(sql.meet(self._sql, connection, values))
        return stored

    def _write_now(self, connection: Any, settlements: list[Settlement]) -> None:
        with self._sql.transaction(connection):
            for row in self._settlement_rows(settlements):
                self._sql.settle(connection, row)

    def _settlement_rows(self, settlements: list[Settlement]) -> list[dict[str, Any]]:
        """The rows in one order for all processes: two that write the same rows must not deadlock."""
        rows = [
            {**self._row(settlement.hold), "spent": settlement.spent, "assumed": settlement.assumed}
            for settlement in settlements
        ]
        return sorted(rows, key=lambda row: (row["key"], row["starts_at"], row["call_id"]))

    def _forget(self, settlements: list[Settlement]) -> None:
        for settlement in settlements:
            self._pending.pop(settlement.hold.call_id, None)

    def _drop_old(self, hold: Hold) -> None:
        """Delete the key's oldest windows when a new one begins, and once also those of unused keys."""
        kept = self._windows.kept
        if kept is None:
            return
        values = {
            "name": self._name,
            "key": _text_of(hold.key),
            "kept": kept,
            "starts_at": hold.start,
        }
        with contextlib.suppress(Exception):  # a failure costs only space
            self._connection.use(lambda c: sql.drop_older(self._sql, c, values))
            if not self._has_swept:
                self._has_swept = True
                long_past = {"name": self._name, "before": hold.start - _LONG_PAST}
                self._connection.use(lambda c: sql.drop_long_past(self._sql, c, long_past))

    def _see(self, key: str | None, start: float, sums: CounterSums) -> bool:
        """Keep the sums of a key. Returns whether they are the first of their window in this process."""
        with self._seeing:
            is_new = key not in self._seen or self._seen[key][0] != start
            self._seen[key] = start, replace(sums)
            self._seen.move_to_end(key)
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
        return is_new

    def _row(self, hold: Hold) -> dict[str, Any]:
        first, last = self._windows.span(hold.at)
        return {
            "name": self._name,
            "key": _text_of(hold.key),
            "starts_at": hold.start,
            "resets_at": self._windows.bounds(hold.at, hold.start)[1],
            "unit": self._what["unit"],
            "per": self._what["per"],
            "period": self._what["window"],
            "timezone": self._what["timezone"],
            "limit": self._limit,
            "call_id": call_key(hold.call_id),
            "amount": hold.amount,
            "at": hold.at,
            "calls": int(hold.is_call),
            "first": first,
            "last": last,
            "is_rolling": isinstance(self._windows.period, float),
        }

    def _span(self, key: str | None, now: float) -> dict[str, Any]:
        first, last = self._windows.span(now)
        return {"name": self._name, "key": _text_of(key), "first": first, "last": last}


def _text_of(key: str | None) -> str:
    """A key as text for the store. NUL and lone surrogates are replaced, as in a ledger's tags."""
    return "" if key is None else f"={plain_text(key)}"


def _key_of(text: str) -> str | None:
    return text[1:] if text else None
