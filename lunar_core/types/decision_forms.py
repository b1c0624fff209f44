"""Shows a routing decision: as lines of text, as a table of rich, and as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from lunar_core.types.numbers import plain_number
from lunar_core.types.steering import STEERING

Fields = Mapping[str, Any]
"""The fields of a RoutingDecision, by name."""


def facts_of(decision: Fields) -> list[tuple[str, str]]:
    """The stated fields of a decision, as names and texts without a terminal's control characters."""
    facts = {
        "model": decision["selected_model"],
        "provider": decision["selected_provider"] or None,
        "expected error": _plain(decision["expected_error"]),
        "cost-adjusted score": _plain(decision["cost_adjusted_score"]),
        "cluster": decision["cluster_id"],
        "reasoning": decision["reasoning"] or None,
    }
    return [
        (name, str(fact).translate(STEERING)) for name, fact in facts.items() if fact is not None
    ]


def _plain(number: float | None) -> str | None:
    return None if number is None else plain_number(number)


def to_rich(decision: Fields) -> Any:  # rich is an extra
    """The decision as a table of rich."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, text in facts_of(decision):
        table.add_row(Text(name, style="dim"), Text(text))
    return table


def to_html(decision: Fields) -> str:
    """The decision as an HTML table for a notebook."""
    rows = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left; white-space: pre-line">{escape(text)}</td></tr>'
        for name, text in facts_of(decision)
    )
    return f"<table>{rows}</table>"
