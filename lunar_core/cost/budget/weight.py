"""A ``cost_weight`` that rises as a budget is used up: cheaper models before refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from lunar_core.errors import ConfigurationError


class _Used(Protocol):
    def used(self) -> float: ...


@dataclass(frozen=True)
class BudgetWeight:
    """A function for ``cost_weight``: ``base`` until the share ``start`` is used, then linearly up to ``top`` at 1.

    Raises ConfigurationError that names a wrong number.
    """

    budget: _Used
    base: float = 0.0
    start: float = 0.5
    top: float = 100.0

    def __post_init__(self) -> None:
        checked_weight(self.base, "base")
        checked_share(self.start, "start")
        if checked_weight(self.top, "top") < self.base:
            raise ConfigurationError("top: must be as high as base, or higher")

    def __call__(self) -> float:
        """The weight for a call that begins now, by the current tags."""
        used = self.budget.used()
        if used >= 1:
            return float(self.top)
        if used <= self.start:
            return float(self.base)
        return self.base + (self.top - self.base) * (used - self.start) / (1 - self.start)


def checked_weight(value: object, name: str) -> float:
    """A number of 0 or more. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name}: expected a number of 0 or more")
    if not math.isfinite(value) or value < 0:
        raise ConfigurationError(f"{name}: expected a number of 0 or more, not {value}")
    return value


def checked_share(value: object, name: str) -> float:
    """A number from 0 to 1. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigurationError(f"{name}: expected a number from 0 to 1")
    return value
