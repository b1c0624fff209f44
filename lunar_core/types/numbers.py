"""Writes numbers for people."""

from __future__ import annotations

from decimal import Decimal


def plain_number(value: float) -> str:
    """A number in six digits, never with an exponent.

    >>> plain_number(1e-06), plain_number(20.0), plain_number(0.1 + 0.2)
    ('0.000001', '20', '0.3')
    """
    return f"{Decimal(f'{value:g}'):f}"
