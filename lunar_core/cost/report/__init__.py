"""A ledger's figures for people: in a terminal, in a notebook, as one page of HTML, as CSV and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lunar_core.cost.figures import Figures, Key, add_up
from lunar_core.cost.report.csv_form import to_csv
from lunar_core.cost.report.json_form import to_json
from lunar_core.cost.report.text_form import to_rich, to_text
from lunar_core.cost.savings import Savings
from lunar_core.cost.totals import Sums, Totals

__all__ = ["Report"]

Place = str | os.PathLike[str] | None


class Report:
    """What some calls came to, as ``ledger.report()`` has found it at one moment. Printed, it is a table.

    ``by``: the names of the groups. ``total``: the sums over all. ``rows``: each group's key and sums, what cost most
    first. ``savings``: what routing saved, None where no call was routed. In a notebook it shows itself as a page.

    >>> print(ledger.report(by=["tag:user"]))
    1 call, $0.25
    <BLANKLINE>
    tag:user  calls  tokens in  tokens out   cost
    u1            1          0           0  $0.25
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.made_at = datetime.now(timezone.utc)
        self.by = figures.by
        self.total = figures.total.totals()
        self.rows = sorted(
            ((key, sums.totals()) for key, sums in figures.groups.items()), key=_order
        )
        tally = figures.savings
        self.savings: Savings | None = tally.savings() if tally.models else None

    @property
    def dropped(self) -> int:
        """Calls that are in the total alone, as a ledger in memory kept newer ones."""
        return self.figures.dropped

    @property
    def estimate_sources(self) -> set[str]:
        """Whose prices the estimates stand on."""
        return self.figures.estimate_sources

    def to_html(self, path: Place = None) -> str:
        """One page: text, tables and charts in one file without script. Needs the extra ``report``.

        With ``path``, it is written there too. Raises ConfigurationError where Jinja2 is not installed, and OSError.
        """
        from lunar_core.cost.report.html_form import to_html

        return _written(to_html(self), path)

    def to_csv(self, path: Place = None) -> str:
        """A line for each group: the names of ``by``, then calls, tokens and amounts in full digits.

        Text that a spreadsheet would take for a formula gets an apostrophe before it. With ``path``, it is written
        there too. Raises OSError.
        """
        return _written(to_csv(self.by, self.rows), path)

    def to_json(self, path: Place = None) -> str:
        """``{"total": {…}, "rows": [{"key": […], …}]}``, amounts as strings of all their digits.

        With ``path``, it is written there too. Raises OSError.
        """
        return _written(to_json(self.total, self.rows), path)

    @staticmethod
    def add_up(rows: Iterable[tuple[Key, Totals]]) -> Totals:
        """The sums over some rows."""
        return add_up(Sums.of(totals) for _key, totals in rows).totals()

    def __str__(self) -> str:
        return to_text(self)

    def __repr__(self) -> str:
        return f"Report(by={list(self.by)}, calls={self.total.calls}, cost={self.total.cost:f})"

    def __rich__(self) -> Any:  # rich asks for it; it is an extra
        return to_rich(self)

    def _repr_html_(self) -> str | None:
        """What a notebook shows; its own text where Jinja2 is not installed."""
        from lunar_core.cost.report.html_form import to_fragment

        return to_fragment(self)


def _order(row: tuple[Key, Totals]) -> tuple[Any, ...]:
    """What cost most first; then by name, those without one last."""
    key, totals = row
    names = tuple((name is None, name or "") for name in key)
    return (-totals.cost, -totals.estimated, -totals.calls, names)


def _written(text: str, path: Place) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text
