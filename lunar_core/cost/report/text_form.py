"""A report for a terminal: plain text, and a table if rich prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lunar_core.cost.report.contents import Contents
from lunar_core.cost.report.words import (
    cost_words,
    count_words,
    estimate_head,
    estimate_words,
    one_line,
    shown_name,
    usd,
)
from lunar_core.cost.savings import Savings
from lunar_core.cost.totals import Totals

MOST_LINES = 50


def to_text(report: Contents) -> str:
    """Lines of text; columns by spaces."""
    head, rows = table_of(report)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    names = len(report.by)
    lines = [
        "  ".join(
            cell.ljust(width) if index < names else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([*opening(report), "", *lines, *closing(report)])


def to_rich(report: Contents) -> Any:  # rich is an extra
    """The same for rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head, rows = table_of(report)
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(head):
        table.add_column(
            Text(name), justify="left" if index < len(report.by) else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(*map(Text, opening(report)), Text(), table, *map(Text, closing(report)))


def opening(report: Contents) -> list[str]:
    """The lines above the table: totals of all calls."""
    total = report.total
    lines = [f"{count_words(total.calls, 'call')}, {cost_words(total)}"]
    if total.unpriced > total.unknown:
        lines.append(f"{estimate_head(report.estimate_sources)}: {estimate_words(total)}")
    return lines


def closing(report: Contents) -> list[str]:
    """The lines below the table."""
    lines = []
    if report.dropped:
        lines += ["", dropped_words(report.dropped)]
    if report.savings is not None:
        lines += ["", *savings_words(report.savings)]
    return lines


def dropped_words(dropped: int) -> str:
    """Why the rows do not add up to the total, in words."""
    verb = "is" if dropped == 1 else "are"
    return f"{count_words(dropped, 'older call')} {verb} in the total alone."


def savings_words(savings: Savings) -> list[str]:
    """What routing saved, and its assumption, in words."""
    assumption = one_line(savings.assumption)  # it names the baseline
    reason = "without a known cost, or a known price of the baseline"
    if savings.left_out and not savings.calls:
        calls = count_words(savings.left_out, "routed call")
        return [f"What routing saved is unknown: {calls} {reason}.", assumption]
    verb = "saved" if savings.saved >= 0 else "cost"
    left_out = f" {savings.left_out:,} left out, {reason}." if savings.left_out else ""
    comparison = f"{usd(savings.actual)} in place of {usd(savings.baseline_cost)}"
    calls = count_words(savings.calls, "routed call")
    return [
        f"Routing {verb} {usd(savings.saved.copy_abs())}: {calls} for {comparison}.{left_out}",
        assumption,
    ]


def table_of(report: Contents) -> tuple[list[str], list[list[str]]]:
    """The head and the rows, without empty columns."""
    total, rows = report.total, report.rows[:MOST_LINES]
    has_estimates, has_saved = total.unpriced > total.unknown, total.saved > 0
    head = [*map(shown_name, report.by), "calls", "tokens in", "tokens out", "cost"]
    head += [estimate_head(report.estimate_sources)] * has_estimates
    head += ["saved by caches"] * has_saved

    def cells(names: Sequence[str], totals: Totals) -> list[str]:
        counts = (totals.calls, totals.prompt_tokens, totals.completion_tokens)
        shown = [*names, *(f"{count:,}" for count in counts), cost_words(totals)]
        shown += [estimate_words(totals)] * has_estimates
        return shown + [usd(totals.saved)] * has_saved

    lines = [cells([*map(shown_name, key)], totals) for key, totals in rows]
    rest = report.rows[MOST_LINES:]
    if rest:
        names = [f"{len(rest):,} others", *[""] * (len(report.by) - 1)]
        lines.append(cells(names, report.add_up(rest)))
    return head, lines
