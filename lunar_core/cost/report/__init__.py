"""A ledger's figures for people: in a terminal, in a notebook, as an HTML page, as CSV and as JSON."""

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
    """The figures of some calls, as ``ledger.report()`` read them at one moment. Printed, it is a table.

    ``by``: the names of the groups. ``total``: the sums over all. ``rows``: each group's key and sums, the highest cost
    first. ``savings``: what routing saved; None if no call was routed. A notebook shows it as a page.

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
        """Calls that only the total covers, because a ledger in memory dropped them."""
        return self.figures.dropped

    @property
    def estimate_sources(self) -> set[str]:
        """The sources of the prices of the estimates."""
        return self.figures.estimate_sources

    def to_html(self, path: Place = None) -> str:
        """One HTML page: text, tables and charts in one file without script. Needs the extra ``report``.

        Also written to ``path``, if given. Raises ConfigurationError if Jinja2 is not installed, and OSError.
        """
        from lunar_core.cost.report.html_form import to_html

        return _write(to_html(self), path)

    def to_csv(self, path: Place = None) -> str:
        """CSV with a line for each group: the names of ``by``, then calls, tokens and amounts in full digits.

        Text that a spreadsheet would run as a formula gets an apostrophe in front. Also written to ``path``, if given.
        Raises OSError.
        """
        return _write(to_csv(self.by, self.rows), path)

    def to_json(self, path: Place = None) -> str:
        """``{"total": {…}, "rows": [{"key": […], …}]}``, with amounts as strings of all their digits.

        Also written to ``path``, if given. Raises OSError.
        """
        return _write(to_json(self.total, self.rows), path)

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
        """For notebooks: the page, or the text if Jinja2 is not installed."""
        from lunar_core.cost.report.html_form import to_fragment

        return to_fragment(self)


def _order(row: tuple[Key, Totals]) -> tuple[Any, ...]:
    """The sort key: the highest cost first, then by name, rows without a name last."""
    key, totals = row
    names = tuple((name is None, name or "") for name in key)
    return (totals.cost.copy_negate(), totals.estimated.copy_negate(), -totals.calls, names)


def _write(text: str, path: Place) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text
