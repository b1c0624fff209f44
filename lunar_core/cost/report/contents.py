"""The contents of a report, for its forms."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from lunar_core.cost.figures import Figures, Key
from lunar_core.cost.savings import Savings
from lunar_core.cost.totals import Totals


class Contents(Protocol):
    """A Report as its forms see it. They cannot import the class, because it imports them."""

    figures: Figures
    made_at: datetime
    by: tuple[str, ...]
    total: Totals
    rows: list[tuple[Key, Totals]]
    savings: Savings | None

    @property
    def dropped(self) -> int: ...

    @property
    def estimate_sources(self) -> set[str]: ...

    @staticmethod
    def add_up(rows: Iterable[tuple[Key, Totals]]) -> Totals: ...
