"""The state of a budget, and the words of its errors and warnings."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

from lunar_core.cost.budget.amounts import Unit

logger = logging.getLogger("lunar_core")

_REMEMBERED = 20_000
"""For how many keys given warnings are kept."""


@dataclass(frozen=True)
class BudgetState:
    """A budget for one key, in its current window. Amounts are USD (Decimal), tokens or calls, as ``unit`` says.

    ``spent``: by settled calls; ``assumed``: the part of it that was not stated. ``held``: reserved for calls under
    way. ``remaining``: what is left, at least 0. ``calls``: let through in this window; ``refused``: not let through.
    ``starts_at`` and ``resets_at``: seconds since the epoch, or None for never.

    >>> state = Budget(usd=5).state()
    >>> state.unit, state.limit, state.spent
    ('usd', Decimal('5'), Decimal('0'))
    """

    name: str
    key: str | None
    unit: Unit
    limit: Decimal | int
    spent: Decimal | int
    assumed: Decimal | int
    held: Decimal | int
    remaining: Decimal | int
    calls: int
    refused: int
    starts_at: float | None
    resets_at: float | None


def title(name: str, per: str | None, key: str | None) -> str:
    """The budget's name, with its tag and key."""
    if per is None:
        return f"budget {name!r}"
    return f"budget {name!r}, {per} {key!r}" if key is not None else f"budget {name!r}, no {per}"


def describe_refusal(
    state: BudgetState, per: str | None, amount: Decimal | int | None, model: str
) -> str:
    """Why a call to ``model`` was refused, and what can be done about it."""
    which = title(state.name, per, state.key)
    if amount is None:
        return (
            f"{which}: nobody can tell what this call may take: no price is known of {model}, or of a model that may "
            "answer for it. Name a model with a price, or in a program pass reserve= (an amount), prices= "
            "(of client.models.prices(), or by the extra 'prices') or unpriced='allow'"
        )
    text = (
        f"{which}: this call may take {_amount(amount, state.unit)}; of {_amount(state.limit, state.unit)}, "
        f"{_digits(state.spent)} is spent and {_digits(state.held)} held for calls under way"
    )
    if amount > state.limit:
        text += (
            "; that is more than the whole budget: max_tokens= of the call, cheaper models=, "
            "or reserve= of the budget, may say that it takes less"
        )
    if state.resets_at is None:
        return text
    return f"{text}; {_moment(state.resets_at)}"


def _amount(amount: Decimal | int, unit: Unit) -> str:
    word = "USD" if unit == "usd" else unit.removesuffix("s") if amount == 1 else unit
    return f"{_digits(amount)} {word}"


def _digits(amount: Decimal | int) -> str:
    return f"{amount:f}" if isinstance(amount, Decimal) else f"{amount:,}"


def _moment(seconds: float) -> str:
    try:
        at = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):  # a clock of the caller's own
        return f"it resets at {seconds}"
    return f"it resets at {at:%Y-%m-%d %H:%M:%S} UTC"


class Warnings:
    """Warnings in the log, each once per key and window."""

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[str | None, str], float] = OrderedDict()

    def warn_once(self, key: tuple[str | None, str], window: float, text: str) -> None:
        """Log ``text``, unless ``key`` was warned of in this window."""
        if self._windows.get(key) == window:
            return
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > _REMEMBERED:
            self._windows.popitem(last=False)
        logger.warning("%s", text)
