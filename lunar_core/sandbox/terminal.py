"""One line per request in the sandbox's terminal: its path, model, status, time, tokens and cost.

A line shows no key, no prompt and no answer. ``--quiet`` switches the lines off, ``--json`` too.
"""

from __future__ import annotations

import contextlib
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lunar_core.sandbox.bills import Bill

_LONGEST = 100
"""Characters of a path or of a model's name that are shown."""


def request_line(
    method: str,
    path: str,
    status: int | None,
    seconds: float,
    *,
    record: Mapping[str, Any],
    bill: Bill | None,
) -> str:
    """Write the line of a request.

    ``path``: without the session's prefix and without a query. ``status``: the answer's; None where the connection
    ended before any. ``seconds``: how long it took, to the end of a stream. ``record``: the log's record of it, for the
    model and the fault. ``bill``: what was charged, if anything was.
    """
    words = [f"{_printable(method)} {_printable(path)}"]
    if model := record.get("model"):
        words.append(_printable(str(model)))
    words += [str(status or "no answer"), f"{seconds * 1000:.0f} ms"]
    if bill is not None:
        words.append(f"{bill.tokens.prompt}+{bill.tokens.completion} tokens")
        if (cost := bill.cost) is not None:
            words.append(f"{Decimal(repr(cost)):f} USD")
    if fault := record.get("fault"):
        words.append(f"fault {_printable(str(fault))}")
    return "  ".join(words)


def show(line: str) -> None:
    """Write a line to stdout. If stdout is closed, the sandbox goes on serving."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _printable(text: str) -> str:
    """A client's text, cut, with characters replaced that would move the cursor."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(char if char.isprintable() else "?" for char in shown)
