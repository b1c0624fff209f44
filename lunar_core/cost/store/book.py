"""The book of a stored ledger: reads and adds entries, and knows those that wait to be written."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from lunar_core.checks import checked_seconds
from lunar_core.cost.book import Groups
from lunar_core.cost.entries import Entry
from lunar_core.cost.figures import MOST_ROWS, Figures
from lunar_core.cost.prices import Prices
from lunar_core.cost.savings import SavingsTally
from lunar_core.cost.selection import Selection
from lunar_core.cost.store import queries
from lunar_core.cost.store.address import Address
from lunar_core.cost.store.database import Database
from lunar_core.cost.store.figures import read_figures, read_routed
from lunar_core.cost.store.items import Recorded
from lunar_core.cost.store.rows import call_key
from lunar_core.cost.store.writer import Writer
from lunar_core.cost.totals import Sums, Totals
from lunar_core.errors import ConfigurationError, LedgerError
from lunar_core.observers import Outcome


def open_book(
    where: object, prices: Prices | None, flush_seconds: object, *, read_only: object
) -> StoredBook:
    """Open a store for a ledger. Raises ConfigurationError and LedgerError as ``Ledger.open`` does."""
    seconds = checked_seconds(flush_seconds, "flush_seconds")
    if seconds is None:
        raise ConfigurationError("flush_seconds: expected a number of seconds")
    if not isinstance(read_only, bool):
        raise ConfigurationError("read_only: expected True or False")
    database = Database(Address.parse(where), read_only=read_only)
    database.open()
    return StoredBook(database, prices, seconds)


class StoredBook:
    """The entries of all processes that write to one store. A read is a snapshot, with this process's own entries."""

    def __init__(self, database: Database, prices: Prices | None, flush_seconds: float) -> None:
        self.database = database
        self.prices = prices
        self.writer = Writer(database, prices, flush_seconds)
        self._flush_seconds = flush_seconds
        self._closed = False
        self._calls = _CallLookup(database)
        database.on_child(self._calls.begin)
        if not database.read_only:
            self.writer.wake()

    @property
    def shown(self) -> str:
        return self.database.address.shown

    @property
    def lost(self) -> int:
        return self.writer.lost

    def address(self) -> tuple[str, dict[str, Any]]:
        """The argument and the keywords of ``Ledger.open`` that open it again in another process."""
        return self.database.address.text, {
            "prices": self.prices,
            "flush_seconds": self._flush_seconds,
            "read_only": self.database.read_only,
        }

    def outlive(self, ledger: object) -> None:
        """Stop the writer's thread when ``ledger`` is garbage-collected. It first writes what waits."""
        weakref.finalize(ledger, self.writer.stop).atexit = False

    # Writing

    def wake(self) -> None:
        """Start the writer's thread in this process, if it does not run."""
        self.writer.wake()

    def record(self, outcome: Outcome) -> None:
        self.check_open()
        self.writer.put(outcome)

    def add(self, entry: Entry) -> bool:
        self.check_open()
        if self.writer.find(entry.call_id) is not None or self._is_stored(entry.call_id):
            return False
        self.writer.wait_for_room()
        recorded = Recorded(entry)
        self.writer.put(recorded)
        return self.writer.find(entry.call_id) is recorded

    def label(self, call_id: str, labels: Mapping[str, object]) -> None:
        self.check_open()
        self.writer.relabel(call_id, labels)

    def flush(self) -> None:
        if not self.database.read_only:
            self.check_open()
            self.writer.flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if not self.database.read_only:
                self.writer.close()
        finally:
            self.database.close()

    def check_open(self) -> None:
        if self._closed:
            raise LedgerError(f"{self.shown} is closed")
        if self.database.read_only:
            raise LedgerError(f"{self.shown} was opened to be read only")

    def _is_stored(self, call_id: str) -> bool:
        # While the store cannot be written it is not read either: handlers must not wait for each call.
        return not self.writer.is_failing and self._calls.holds(call_key(call_id))

    # Reading

    def get(self, call_id: str) -> Entry | None:
        if self._closed:
            raise LedgerError(f"{self.shown} is closed")
        recorded = self.writer.find(call_id)
        if recorded is not None:
            return recorded.entry
        with self.database.reading() as connection:
            return queries.read_one(connection, call_key(call_id))

    def entries(self, selection: Selection) -> Iterator[Entry]:
        after: int | None = 0
        while after is not None:
            # No connection between pages: the reader may take long, and fork meanwhile.
            with self._snapshot() as (connection, unwritten):
                page, after = queries.read_page(connection, selection, after)
                rest = unwritten if after is None else []
            yield from page
            yield from filter(selection.holds, rest)

    def count(self, selection: Selection) -> int:
        with self._snapshot() as (connection, unwritten):
            return queries.read_count(connection, selection) + sum(map(selection.holds, unwritten))

    def totals(self, selection: Selection) -> Totals:
        return self.groups(selection, ()).get((), Sums().totals())

    def groups(self, selection: Selection, names: tuple[str, ...]) -> Groups:
        with self._snapshot() as (connection, unwritten):
            sums = queries.read_sums(connection, selection, names)
        return queries.with_unwritten(sums, list(filter(selection.holds, unwritten)), names)

    def read_figures(self, selection: Selection, figures: Figures) -> None:
        with self._snapshot() as (connection, unwritten):
            read_figures(connection, selection, figures, most_budgets=MOST_ROWS)
        figures.add_all(filter(selection.holds, unwritten))

    def read_routed(self, selection: Selection, tally: SavingsTally) -> None:
        with self._snapshot() as (connection, unwritten):
            read_routed(connection, selection, tally)
        for entry in filter(selection.holds, unwritten):
            tally.add_entry(entry)

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[tuple[Connection, list[Entry]]]:
        """The store at one moment, and this process's own entries that cannot be written now."""
        if self._closed:
            raise LedgerError(f"{self.shown} is closed")
        waiting: list[Recorded] = []
        if not self.database.read_only:
            with contextlib.suppress(LedgerError):
                self.writer.flush()
            waiting = self.writer.unwritten()
        with self.database.reading() as connection:
            # A waiting entry may be written by now, or another process has recorded the call.
            ids = [recorded.call_id for recorded in waiting]
            stored = queries.known_calls(connection, ids) if ids else set()
            yield (
                connection,
                [recorded.entry for recorded in waiting if recorded.call_id not in stored],
            )


class _CallLookup:
    """Checks whether a call is stored, on a driver connection that is kept open: this saves 100 µs per check."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mark = "?" if database.is_sqlite else "%s"
        self._connection: Any = None
        self.begin()
        database.on_close(self._drop)

    def begin(self) -> None:
        self._lock = threading.RLock()
        self._is_busy = False

    def holds(self, call_id: str) -> bool:
        """Whether the call is stored. False if that cannot be read now: the store decides when it is written."""
        with self._lock:
            if self._is_busy:  # called by the garbage collector meanwhile: the connection is in use
                return False
            self._is_busy = True
            try:
                return self._ask(call_id)
            except Exception:  # noqa: BLE001  # sqlite3's or psycopg's: the next call opens another connection
                self._drop()
                return False
            finally:
                self._is_busy = False

    def _ask(self, call_id: str) -> bool:
        with self._database.gate:
            if self._connection is None:
                self._connection = self._database.connect_driver()
            statement = f"SELECT 1 FROM lunar_entries WHERE call_id = {self._mark}"  # noqa: S608  # _mark is ? or %s
            return self._connection.execute(statement, (call_id,)).fetchone() is not None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
