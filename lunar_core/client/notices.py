"""Warnings that point at the caller's own line: for streams without a cost, and for misspelt keywords."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

from lunar_core.errors import LunarCostWarning
from lunar_core.wire.keywords import find_nearest

_TEXT = (
    "the service stated no cost for a stream, so that its cost is None: unknown, and not 0."
    " A call that is not streamed states it (in LangChain: disable_streaming=True); a Ledger with prices estimates it."
)
_OURS = {"lunar_core", "langchain_lunar", "llama_index_lunar"}


class CostNotice:
    """Warns at the first stream that ends without a cost, and never again."""

    def __init__(self) -> None:
        self.is_due = True

    def give(self) -> None:
        """Issue a LunarCostWarning at the caller's own line."""
        if self.is_due:
            self.is_due = False
            warnings.warn(_TEXT, LunarCostWarning, stacklevel=_levels_to_caller())


def warn_of_misspelt(keywords: Iterable[str]) -> None:
    """Warn of each keyword that is almost one that is known here. The keyword is sent as it is.

    >>> warn_of_misspelt(["temprature"])  # warns: did you mean temperature?
    """
    for name in keywords:
        nearest = find_nearest(name)
        if nearest is not None:
            text = f"{name}: is sent as it is, but nothing of that name is known; did you mean {nearest}?"
            warnings.warn(text, UserWarning, stacklevel=_levels_to_caller())


def _levels_to_caller() -> int:
    """The number of frames from the function that warns up to the first frame outside our packages."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back is not None and _package(frame.f_globals.get("__name__")) in _OURS:
        frame, levels = frame.f_back, levels + 1
    return levels


def _package(module: object) -> str:
    return str(module).partition(".")[0]
