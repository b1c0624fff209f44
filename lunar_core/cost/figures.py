"""The figures of a report: added up entry by entry in memory, or from a store's own sums. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

from lunar_core.cost.entries import Entry
from lunar_core.cost.savings import SavingsTally
from lunar_core.cost.selection import group_key, hour_of, period
from lunar_core.cost.totals import Sums

K = TypeVar("K")
Key = tuple[str | None, ...]

MOST_ROWS = 20
"""How many rows a table has. The rest is added up as "others"."""
MOST_MS = 10**12
"""Milliseconds. A longer time counts as this: an entry may hold any number."""


@dataclass(frozen=True)
class BudgetFigures:
    """One key of a budget, over the windows that its store keeps. Amounts are USD, tokens or calls (``unit``)."""

    name: str
    per: str | None
    key: str | None
    window: str | None
    unit: str
    limit: Decimal | int
    """The limit that was used last."""
    spent: Decimal | int
    refused: int


class Figures:
    """All figures of a report. ``groups``: by the names of ``by``.

    ``dropped``: calls that only ``total`` covers, because a ledger in memory dropped them. ``budgets``: None without a
    store, else the first of ``budget_count`` budgets.
    """

    def __init__(self, by: tuple[str, ...], savings: SavingsTally) -> None:
        self.by = by
        self.savings = savings
        self.total = Sums()
        self.groups: dict[Key, Sums] = {}
        self.hours: dict[str, Sums] = {}
        """By the name of the hour, as in ``group("hour")``."""
        self.latency: Counter[int] = Counter()
        """How many calls took so many whole milliseconds."""
        self.first_token: Counter[int] = Counter()
        """The same, until the first token of a stream."""
        self.failures: Counter[tuple[str, str | None]] = Counter()
        """Calls that did not end well, by status and class of the error."""
        self.estimate_sources: set[str] = set()
        self.dropped = 0
        self.budgets: list[BudgetFigures] | None = None
        self.budget_count = 0

    def add(self, entry: Entry) -> None:
        """Count an entry, except in ``total``, which ``add_up`` makes."""
        key = tuple(group_key(entry, name) for name in self.by)
        _sums_of(self.groups, key).add(entry)
        _sums_of(self.hours, hour_name(hour_of(entry.at))).add(entry)
        _count(self.latency, entry.latency_ms)
        _count(self.first_token, entry.ttft_ms)
        if entry.status != "ok":
            self.failures[entry.status, entry.error] += 1
        if entry.estimate is not None and entry.cost is None:
            self.estimate_sources.add(entry.estimate.source)
        self.savings.add_entry(entry)

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Count entries, and make ``total``."""
        for entry in entries:
            self.add(entry)
        self.total = add_up(self.groups.values())


def add_up(parts: Iterable[Sums]) -> Sums:
    """The exact sums over all parts."""
    total = Sums()
    for part in parts:
        total = total.plus(part)
    return total


@lru_cache(maxsize=4_096)
def hour_name(hour: int) -> str:
    """The hour as ``group("hour")`` names it."""
    return period(hour, "hour")


def _sums_of(groups: dict[K, Sums], key: K) -> Sums:
    sums = groups.get(key)
    if sums is None:
        sums = groups[key] = Sums()
    return sums


def _count(counts: Counter[int], milliseconds: float | None) -> None:
    if milliseconds is not None and math.isfinite(milliseconds) and milliseconds >= 0:
        counts[min(int(milliseconds + 0.5), MOST_MS)] += 1
