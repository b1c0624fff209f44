"""A report as CSV, for spreadsheets: numbers in full digits, and no text that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from lunar_core.cost.entries import plain_text
from lunar_core.cost.figures import Key
from lunar_core.cost.report.json_form import NAMES, plain_totals
from lunar_core.cost.totals import Totals

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(by: Sequence[str], rows: Iterable[tuple[Key, Totals]]) -> str:
    """The head, and a line for each group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*map(_cell, by), *NAMES])
    for key, totals in rows:
        writer.writerow([*map(_cell, key), *plain_totals(totals).values()])
    return text.getvalue()


def _cell(value: str | None) -> str | None:
    """Text that a spreadsheet takes for a formula gets an apostrophe before it."""
    if value is None:
        return None
    plain = plain_text(value)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain
