"""Functions for SQLite: exact sums of decimal text, and one member of a JSON object."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from functools import lru_cache

from lunar_core.cost.amounts import EXACT
from lunar_core.cost.selection import label_text


class _ExactSum:
    """An aggregate with the interface that sqlite3 expects."""

    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, amount: str | None) -> None:
        if amount is not None:
            self._sum = EXACT.add(self._sum, _decimal(amount))

    def finalize(self) -> str:
        return str(self._sum)


def add_functions(connection: sqlite3.Connection) -> None:
    """Add both functions to a connection."""
    connection.create_aggregate("lunar_sum", 1, _ExactSum)  # type: ignore[arg-type]  # typeshed wants finalize() to return int; SQLite takes text
    connection.create_function("lunar_member", 2, _member, deterministic=True)


@lru_cache(maxsize=4_096)
def _decimal(text: str) -> Decimal:
    return Decimal(text)


@lru_cache(maxsize=4_096)
def _member(text: str, name: str) -> str | None:
    return label_text(json.loads(text).get(name))
