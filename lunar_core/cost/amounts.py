"""Checks amounts of money that callers pass, and adds them up without rounding."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation

from lunar_core.errors import ConfigurationError

# Wide enough for the sum of any floats: no digit that the service wrote is ever rounded away.
EXACT = Context(prec=1_200, Emax=MAX_EMAX, Emin=MIN_EMIN)
QUOTIENTS = Context(prec=28, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""For divisions, whose digits may have no end. The caller's own decimal context may round to two."""


def checked_amount(value: object, name: str) -> Decimal:
    """``value`` as an amount of money: an ``int``, ``str`` or ``Decimal``, or a ``float`` by its shortest digits.

    Raises ConfigurationError, with ``name`` in it, for a negative or infinite value, or one that is no number.

    >>> checked_amount(0.1, "usd"), checked_amount("4.5e-05", "usd")
    (Decimal('0.1'), Decimal('0.000045'))
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ConfigurationError(
            f"{name}: expected an amount of money, as Decimal, int, str or float"
        )
    try:
        amount = Decimal(repr(float(value)) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ConfigurationError(f"{name}: expected an amount of money, not {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{name}: expected an amount of 0 or more, not {value!r}")
    return amount


def exact_sum(amounts: Iterable[Decimal | None]) -> Decimal:
    """The exact sum of the known amounts, whatever the caller's decimal context."""
    total = Decimal(0)
    for amount in amounts:
        if amount is not None:
            total = EXACT.add(total, amount)
    return total
