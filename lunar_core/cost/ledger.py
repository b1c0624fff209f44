"""A Ledger keeps one Entry per call, and adds them up exactly: what was spent, on what, for whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from typing_extensions import Self

from lunar_core.checks import checked_count
from lunar_core.cost.book import Book, Groups, MemoryBook
from lunar_core.cost.entries import Entry, Estimate
from lunar_core.cost.figures import Figures
from lunar_core.cost.prices import Prices, checked_prices
from lunar_core.cost.report import Report
from lunar_core.cost.savings import Savings, SavingsTally
from lunar_core.cost.selection import EVERYTHING, Selection, checked_groups
from lunar_core.cost.totals import Sums, Totals
from lunar_core.errors import ConfigurationError, describe_unexpected
from lunar_core.extras import install_command
from lunar_core.observers import CallStart, Endpoint, Outcome, Status

if TYPE_CHECKING:
    from lunar_core.cost.store.book import StoredBook

__all__ = ["Entry", "Estimate", "Ledger", "LedgerView", "Savings", "Totals"]

K = TypeVar("K")
Moment = datetime | timedelta | float
"""A ``datetime`` with a time zone, epoch seconds, or a ``timedelta`` before now."""


class LedgerView:
    """Some entries of a ledger, to read. Each read sees the ledger's current entries.

    On a stored ledger, reading raises LedgerError if the store cannot be read.
    """

    def __init__(self, book: Book, selection: Selection) -> None:
        self._book = book
        self._selection = selection

    def where(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        tags: Mapping[str, str | None] | None = None,
        model: str | None = None,
        endpoint: Endpoint | str | None = None,
        status: Status | str | None = None,
    ) -> LedgerView:
        """Return a view of the entries that match.

        ``since`` is included and ``until`` is not: a ``datetime`` with a time zone, epoch seconds, or a ``timedelta``
        before now. ``tags``: all must have these values; None means without the tag. ``model``: with or without its
        provider. Raises ConfigurationError that names the wrong argument.

        >>> ledger = Ledger()
        >>> ledger.add(Entry("call_1", "gpt-4o", cost="0.25", tags={"user": "u1"}))
        True
        >>> ledger.where(since=timedelta(hours=1), tags={"user": "u1"}).total_cost
        Decimal('0.25')
        """
        chosen = Selection.parse(
            since=since, until=until, tags=tags, model=model, endpoint=endpoint, status=status
        )
        return LedgerView(self._book, chosen.within(self._selection))

    def group(self, *names: str) -> Groups:
        """Totals by each combination of ``names``, at least one.

        A name is ``model`` (as in ``by_model``), ``requested_model``, ``provider``, ``endpoint``, ``status``, ``hour``,
        ``day``, ``week``, ``month`` (in UTC: ``2026-03-01T10``, ``2026-03-01``, a week by its Monday, ``2026-03``),
        ``tag:NAME`` or ``label:NAME``. A part of a key is None if the entry has no such value. Raises
        ConfigurationError for any other name.

        >>> ledger = Ledger()
        >>> ledger.add(Entry("call_1", "gpt-4o", cost="0.25", tags={"user": "u1"}, at=1772360000))
        True
        >>> ledger.group("tag:user", "month")[("u1", "2026-03")].cost
        Decimal('0.25')
        """
        return self._book.groups(self._selection, checked_groups(names))

    def __iter__(self) -> Iterator[Entry]:
        return self._book.entries(self._selection)

    def __len__(self) -> int:
        return self._book.count(self._selection)

    @property
    def total(self) -> Totals:
        """The totals of all entries."""
        return self._book.totals(self._selection)

    @property
    def total_cost(self) -> Decimal:
        """USD of all entries with a known cost. ``unpriced`` counts the others."""
        return self.total.cost

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers together."""
        return self.total.total_tokens

    @property
    def unpriced(self) -> int:
        """How many answers came without their cost."""
        return self.total.unpriced

    @property
    def by_model(self) -> dict[str, Totals]:
        """Totals by the model that answered, without its provider: ``openai/gpt-4o`` and ``gpt-4o`` are one."""
        return {name or "": totals for (name,), totals in self.group("model").items()}

    @property
    def by_provider(self) -> dict[str | None, Totals]:
        """Totals by the provider that served the answer; None if unknown."""
        return {name: totals for (name,), totals in self.group("provider").items()}

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """Totals by the value of one tag; None for calls without it."""
        return {
            value: totals
            for (value,), totals in self._book.groups(self._selection, (f"tag:{name}",)).items()
        }

    def savings(self, baseline: str | None = None, prices: Prices | None = None) -> Savings:
        """What routing saved: the cost of the routed answers, and what their tokens would have cost on a baseline.

        ``baseline``: the model to compare with; None: for each call the dearest of its candidates with a known price.
        ``prices``: default the ledger's own, else those of the extra ``prices``. What caches saved is in
        ``total.saved``. Raises ConfigurationError that names the wrong argument.

        >>> prices = Prices.of([Model(id="gpt-4o", input_per_million=2.5, output_per_million=10)])
        >>> ledger = Ledger(prices=prices)
        >>> ledger.add(Entry("call_1", "gpt-4o-mini", "router", prompt_tokens=1000, cost="0.00015"))
        True
        >>> ledger.savings("gpt-4o").saved
        Decimal('0.0023500')
        """
        tally = SavingsTally(baseline, prices, self._book.prices)
        self._book.read_routed(self._selection, tally)
        return tally.savings()

    def report(self, *, by: Sequence[str] = ("model",), baseline: str | None = None) -> Report:
        """A report of these entries, to print, or as a page, CSV or JSON.

        ``by``: names as in ``group``. ``baseline``: as in ``savings``. All figures are of one moment. Raises
        ConfigurationError that names the wrong argument.

        >>> ledger = Ledger()
        >>> ledger.add(Entry("call_1", "gpt-4o", cost="0.25", tags={"user": "u1"}))
        True
        >>> print(ledger.report(by=["tag:user"]).to_csv())
        tag:user,calls,prompt_tokens,completion_tokens,cost,estimated,saved,unpriced,unknown
        u1,1,0,0,0.25,0,0,0,0
        <BLANKLINE>
        """
        if isinstance(by, str) or not isinstance(by, Sequence):
            raise ConfigurationError(
                'by: expected a list of names such as ["model", "tag:user"], as group() takes them'
            )
        names = checked_groups(tuple(by), "by")
        figures = Figures(names, SavingsTally(baseline, None, self._book.prices))
        self._book.read_figures(self._selection, figures)
        return Report(figures)

    def by(self, key: Callable[[Entry], K]) -> dict[K, Totals]:
        """Totals by the value that ``key`` returns for each entry."""
        groups: dict[K, Sums] = {}
        for entry in self:
            groups.setdefault(key(entry), Sums()).add(entry)
        return {name: sums.totals() for name, sums in groups.items()}

    def __rich__(self) -> object:
        return self.report().__rich__()

    def _repr_html_(self) -> str | None:
        """For notebooks: the report as a page, or the repr if Jinja2 is not installed."""
        return self.report()._repr_html_()

    def __repr__(self) -> str:
        total = self.total
        return f"{type(self).__name__}(calls={total.calls}, total_cost={total.cost:f}, unpriced={total.unpriced})"


class Ledger(LedgerView):
    """A record of calls. It is an Observer: give it to a client, or let a handler keep one.

    ``Ledger()`` is in memory. It keeps the last ``keep`` entries for iteration, ``by``, ``where``, ``group``, and to
    count each call once. ``total``, ``by_model`` and ``by_tag`` cover all entries ever; ``dropped`` counts those that
    only they cover. ``Ledger.open`` opens one that lasts. ``prices``: for estimates of answers without a stated cost.

    Safe to share between threads and event loops. An entry with a known ``call_id`` is ignored, so that a call counts
    once, however many handlers report it.

    >>> ledger = Ledger()
    >>> ledger.add(Entry("call_1", "gpt-4o-mini", cost="0.000045", tags={"user": "u1"}))
    True
    >>> ledger.total_cost, ledger.by_tag("user")["u1"].calls, ledger.unpriced
    (Decimal('0.000045'), 1, 0)
    """

    def __init__(self, keep: int = 100_000, prices: Prices | None = None) -> None:
        self._keep_in(MemoryBook(checked_count(keep, "keep"), checked_prices(prices)))

    def _keep_in(self, book: MemoryBook | StoredBook) -> None:
        super().__init__(book, EVERYTHING)
        self._memory: MemoryBook | None = book if isinstance(book, MemoryBook) else None
        self._stored: StoredBook | None = None if isinstance(book, MemoryBook) else book
        # An attribute, because the client calls it for each outcome.
        self._record = book.record

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        *,
        prices: Prices | None = None,
        flush_seconds: float = 0.1,
        read_only: bool = False,
    ) -> Ledger:
        """Open a ledger that is kept in a database and shared by all processes that open it. Needs the extra ``sql``.

        ``where``: the path of an SQLite file, which is made if it does not exist, or a URL of SQLite or PostgreSQL
        (extra ``postgres``). Reads return what every process has written, in that order, and this process's own entries
        at once. A thread writes entries in batches, every ``flush_seconds``. Entries survive a power failure once
        ``flush()`` has returned. While the store cannot be written, calls go on and up to 100,000 entries wait;
        ``lost`` counts those beyond. ``read_only``: make and write nothing.

        Raises ConfigurationError for an argument that cannot be a store, and LedgerError for a store that is none, was
        made by a newer version, or cannot be reached.

        >>> with Ledger.open("costs.db") as ledger:
        ...     Lunar(observers=[ledger]).chat.completions.create(model="gpt-4o-mini", messages=messages)
        ...     ledger.total_cost
        Decimal('0.000045')
        """
        try:
            from lunar_core.cost.store.book import open_book
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"where: a stored ledger needs {error.name}: {install_command('sql')}"
            ) from None

        ledger = cls.__new__(cls)
        book = open_book(where, checked_prices(prices), flush_seconds, read_only=read_only)
        ledger._keep_in(book)
        book.outlive(ledger)
        return ledger

    def before(self, call: CallStart, /) -> None:
        """Let every call through: a ledger only records."""
        if self._stored is not None:
            self._stored.wake()

    def after(self, outcome: Outcome, /) -> None:
        """Record how a call ended. A call that was refused before it was sent is not recorded."""
        if outcome.status != "refused":
            try:
                self._record(outcome)
            except KeyboardInterrupt:
                self._record(outcome)  # of what is recorded already, nothing changes
                raise

    def add(self, entry: Entry) -> bool:
        """Record ``entry``. Returns False if its call is recorded already, by any process.

        On a stored ledger this may read the store, and wait for room. Raises LedgerError if that is read-only or
        closed.
        """
        if not isinstance(entry, Entry):
            raise ConfigurationError(f"entry: expected an Entry, not {type(entry).__name__}")
        return self._book.add(entry)

    def get(self, call_id: str) -> Entry | None:
        """The entry of one call, or None."""
        return self._book.get(call_id)

    def label(self, call_id: str, labels: Mapping[str, object]) -> None:
        """Add labels to the entry of a call: facts that a framework knows and the client does not."""
        self._book.label(call_id, labels)

    @property
    def prices(self) -> Prices | None:
        """The prices for estimates of answers without a stated cost."""
        return (self._stored or self._in_memory()).prices

    @property
    def backend(self) -> Literal["memory", "sqlite", "postgresql"]:
        """Where the entries are kept. On PostgreSQL, processes on several machines share one ledger."""
        if self._stored is None:
            return "memory"
        return "sqlite" if self._stored.database.address.path is not None else "postgresql"

    @property
    def stored_book(self) -> StoredBook | None:
        """The book of a stored ledger, for data that is stored beside the entries; None in memory."""
        return self._stored

    @property
    def dropped(self) -> int:
        """How many entries only the totals cover, because ``keep`` newer ones came. 0 on a stored ledger."""
        if self._memory is None:
            return 0
        self._memory.totals(EVERYTHING)
        return self._memory.dropped

    @property
    def lost(self) -> int:
        """How many entries could be neither written nor kept waiting. 0 in memory."""
        return 0 if self._stored is None else self._stored.lost

    @property
    def by_model(self) -> dict[str, Totals]:
        """Totals by the model that answered, without its provider: ``openai/gpt-4o`` and ``gpt-4o`` are one."""
        return super().by_model if self._memory is None else self._memory.by_model()

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """Totals by the value of one tag; None for calls without it."""
        return super().by_tag(name) if self._memory is None else self._memory.by_tag(name)

    def flush(self) -> None:
        """Wait until all entries of this process are stored. Raises LedgerError if one could not be."""
        if self._stored is not None:
            self._stored.flush()

    def close(self) -> None:
        """Flush, and close all connections. May be called twice.

        Raises LedgerError if an entry could not be written.
        """
        if self._stored is not None:
            self._stored.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        if self._stored is not None:
            where, options = self._stored.address()
            return partial(Ledger.open, where, **options), ()
        return Ledger, (), self._memory

    def __setstate__(self, book: MemoryBook) -> None:
        self._keep_in(book)

    def __repr__(self) -> str:
        return (
            super().__repr__() if self._stored is None else f"Ledger.open({self._stored.shown!r})"
        )

    def _in_memory(self) -> MemoryBook:
        if self._memory is None:
            raise TypeError("a ledger is in memory or stored")
        return self._memory


def checked_ledger(value: object) -> Ledger:
    """``value``, if it is a Ledger. Raises ConfigurationError."""
    if isinstance(value, Ledger):
        return value
    raise ConfigurationError(
        f"ledger: expected a Ledger{describe_unexpected(value)}; Ledger.open('costs.db') opens one that lasts"
    )
