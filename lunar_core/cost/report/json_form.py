"""A report as JSON: the total and the groups, costs as strings of all their digits."""

from __future__ import annotations

import json
from collections.abc import Iterable

from lunar_core.cost.figures import Key
from lunar_core.cost.totals import Totals

NAMES = (
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "estimated",
    "saved",
    "unpriced",
    "unknown",
)
"""The figures of each group in CSV and JSON."""


def plain_totals(totals: Totals) -> dict[str, object]:
    """The figures of ``NAMES``."""
    plain = totals.to_dict()
    return {name: plain[name] for name in NAMES}


def to_json(total: Totals, rows: Iterable[tuple[Key, Totals]]) -> str:
    """One object: ``{"total": {…}, "rows": [{"key": […], …}]}``."""
    value = {
        "total": plain_totals(total),
        "rows": [{"key": list(key), **plain_totals(totals)} for key, totals in rows],
    }
    return json.dumps(value, indent=2) + "\n"
