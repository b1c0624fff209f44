"""Words of a report: names without terminal sequences, amounts in full digits, and what is unknown."""

from __future__ import annotations

from decimal import Decimal

from lunar_core.cost.entries import plain_text
from lunar_core.cost.totals import Totals
from lunar_core.types.steering import STEERING

_REORDERING = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""Characters that reverse the direction of the text around them."""

LONGEST = 60
"""How many characters of a name or an amount are shown."""


def shown_name(name: str | None) -> str:
    """The name of a group in one line, for people.

    >>> shown_name("red  green "), shown_name(""), shown_name(None)
    ('red green', '(empty)', '(none)')
    """
    if name is None:
        return "(none)"
    return cut(one_line(name[:1_000])) or "(empty)"


def one_line(text: str) -> str:
    """``text`` in one line, without characters that steer a terminal or turn the direction of the text around them."""
    return " ".join(plain_text(text).translate(STEERING | _REORDERING).split())


def cut(text: str, longest: int = LONGEST) -> str:
    """``text``, or its beginning and an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def usd(amount: Decimal) -> str:
    """An amount in full digits; zeros at its end stay up to the cent.

    >>> usd(Decimal("4.5e-5")), usd(Decimal("-1")), usd(Decimal("0.0022350"))
    ('$0.000045', '-$1', '$0.002235')
    """
    # copy_abs() and not abs(), which rounds to the digits of the caller's decimal context.
    whole, point, fraction = f"{amount.copy_abs():f}".partition(".")
    digits = fraction[:2] + fraction[2:].rstrip("0")
    return cut(f"{'-' if amount < 0 else ''}${whole}{point}{digits}")


def cost_words(totals: Totals) -> str:
    """The billed cost in words. If an answer came without a cost: a lower bound, stated as one.

    >>> cost_words(Totals(calls=2, cost=Decimal("0.5"), unpriced=1, unknown=1))
    'at least $0.5, 1 unknown'
    """
    if not totals.unpriced:
        return usd(totals.cost)
    unknown = f", {totals.unknown:,} unknown" if totals.unknown else ""
    return f"at least {usd(totals.cost)}{unknown}"


def estimate_words(totals: Totals) -> str:
    """The estimated cost of calls without a stated cost; empty without estimates."""
    estimated = totals.unpriced - totals.unknown
    return f"{usd(totals.estimated)} for {estimated:,}" if estimated else ""


def estimate_head(sources: set[str]) -> str:
    """The heading of the estimates' column, with their sources."""
    return f"estimated ({', '.join(sorted(map(shown_name, sources)))})"


def count_words(count: int, noun: str) -> str:
    """A number of things.

    >>> count_words(1, "call"), count_words(1234, "call")
    ('1 call', '1,234 calls')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
