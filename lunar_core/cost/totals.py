"""Sums over entries: exact, and independent of their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from lunar_core.cost.amounts import EXACT
from lunar_core.cost.entries import Entry


@dataclass(frozen=True)
class Totals:
    """Sums over some entries. ``cost`` is a lower bound if ``unpriced`` is not 0.

    ``estimated``: estimated USD of the entries without a stated cost, as far as there are estimates. ``unknown``: how
    many of the ``unpriced`` have no estimate.

    >>> with Lunar(observers=[ledger := Ledger()]) as client:
    ...     answer = client.completions.create(model="gpt-4o", prompt="Count to 5")
    >>> totals = ledger.by_model["gpt-4o"]
    >>> totals.calls, totals.cost, totals.unpriced
    (1, Decimal('0.0000575'), 0)
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)
    unpriced: int = 0
    estimated: Decimal = Decimal(0)
    unknown: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Totals:
        """Exact sums, independent of the order. A decision alone does not count as a call."""
        sums = Sums()
        for entry in entries:
            sums.add(entry)
        return sums.totals()

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON, with amounts as strings.

        >>> Totals(calls=1, cost=Decimal("0.000045")).to_dict()["cost"]
        '0.000045'
        """
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value
            for name, value in vars(self).items()
        }


class Sums:
    """Totals that grow by one entry at a time. ``entries`` counts all, decisions included."""

    __slots__ = (
        "calls",
        "completion_tokens",
        "cost",
        "entries",
        "estimated",
        "prompt_tokens",
        "saved",
        "total_tokens",
        "unknown",
        "unpriced",
    )

    def __init__(self) -> None:
        self.entries = self.calls = self.unpriced = self.unknown = 0
        self.prompt_tokens = self.completion_tokens = self.total_tokens = 0
        self.cost = self.saved = self.estimated = Decimal(0)

    @classmethod
    def of(cls, totals: Totals) -> Sums:
        """The same sums, to add to. ``totals`` do not state how many decisions there were."""
        sums = cls()
        sums.entries = totals.calls
        for name, value in vars(totals).items():
            setattr(sums, name, value)
        return sums

    def add(self, entry: Entry) -> None:
        """Count one more entry."""
        self.entries += 1
        self.calls += entry.endpoint != "router.decide"
        self.prompt_tokens += entry.prompt_tokens
        self.completion_tokens += entry.completion_tokens
        self.total_tokens += entry.total_tokens
        if entry.cost is not None:
            self.cost = EXACT.add(self.cost, entry.cost)
        elif entry.estimate is not None:
            self.estimated = EXACT.add(self.estimated, entry.estimate.cost)
        if entry.saved is not None:
            self.saved = EXACT.add(self.saved, entry.saved)
        if entry.unpriced:
            self.unpriced += 1
            self.unknown += entry.estimate is None

    def plus(self, other: Sums) -> Sums:
        """The sums of both."""
        return self._combine(other, 1)

    def minus(self, other: Sums) -> Sums:
        """These sums without ``other``, which is a part of them."""
        return self._combine(other, -1)

    def _combine(self, other: Sums, sign: int) -> Sums:
        both = Sums()
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Decimal):
                combine = EXACT.add if sign > 0 else EXACT.subtract
                setattr(both, name, combine(mine, theirs))
            else:
                setattr(both, name, mine + sign * theirs)
        return both

    def totals(self) -> Totals:
        """The sums so far."""
        return Totals(**{name: getattr(self, name) for name in self.__slots__ if name != "entries"})
