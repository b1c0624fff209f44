"""How much a call may take from a budget, and how much it took in the end. Pure.

Amounts are whole numbers of 10⁻¹² USD (rounded up), tokens or calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Literal

from pydantic_core import to_json

from lunar_core.checks import checked_count
from lunar_core.cost.amounts import EXACT, checked_amount
from lunar_core.cost.counting import counted_tokens
from lunar_core.cost.entries import Entry
from lunar_core.cost.prices import Prices, with_estimate
from lunar_core.errors import ConfigurationError
from lunar_core.observers import CallStart, Outcome
from lunar_core.types.attempt import Attempt
from lunar_core.types.usage import exact_usd
from lunar_core.wire import model_facts, tokens
from lunar_core.wire.api_requests import ROUTER

Unit = Literal["usd", "tokens", "calls"]

MOST = 9_000_000 * 10**12
"""Counters have 64 bits: this is the largest amount."""

WORST_OUTPUT = 4_096
"""Tokens of output that are assumed for a call without ``max_tokens``, in the worst case."""
FIRST_OUTPUT = 1_024
"""The same for the first calls of a key, unless the worst case is requested."""

_PICO = 12


def whole(amount: Decimal, *, up: bool = True) -> int:
    """USD as a counter's whole number."""
    scaled = EXACT.scaleb(amount, _PICO)
    return min(int(scaled.to_integral_value(ROUND_CEILING if up else ROUND_FLOOR, EXACT)), MOST)


def to_public_amount(amount: int, unit: Unit) -> Decimal | int:
    """A counter's number as callers see it: USD as Decimal, tokens and calls as whole numbers."""
    if unit != "usd":
        return amount
    return Decimal(f"{amount // 10**_PICO}.{amount % 10**_PICO:0{_PICO}d}".rstrip("0").rstrip("."))


def checked_limit(usd: object, tokens: object, calls: object) -> tuple[Unit, int]:
    """The one limit of a Budget, and its unit. Raises ConfigurationError."""
    limits = {"usd": usd, "tokens": tokens, "calls": calls}
    named = [name for name, value in limits.items() if value is not None]
    if len(named) != 1:
        what = " and ".join(named) or "none of them"
        raise ConfigurationError(
            f"usd, tokens, calls: a budget has exactly one of them, not {what}"
        )
    if usd is not None:
        return "usd", _limit(EXACT.scaleb(checked_amount(usd, "usd"), _PICO), "usd")
    unit: Unit = "tokens" if tokens is not None else "calls"
    return unit, _limit(Decimal(checked_count(limits[unit], unit)), unit)


def checked_reserve(value: object, unit: Unit) -> int | Literal["worst"] | None:
    """A Budget's ``reserve``. Raises ConfigurationError."""
    if value is None or value == "worst":
        return value
    if isinstance(value, str) and not value[:1].isdigit() and value[:1] not in ".+-":
        raise ConfigurationError(f"reserve: expected an amount, 'worst' or None, not {value!r}")
    if unit == "usd":
        return whole(checked_amount(value, "reserve"))
    amount = checked_count(value, "reserve")
    if unit == "calls" and amount != 1:
        raise ConfigurationError("reserve: a call counts as 1")
    return min(amount, MOST)


def _limit(amount: Decimal, unit: Unit) -> int:
    if amount > MOST:
        most = "9,000,000 USD" if unit == "usd" else f"{MOST}"
        raise ConfigurationError(f"{unit}: a limit of more than {most} cannot be counted")
    return int(amount.to_integral_value(ROUND_FLOOR, EXACT))


# Before a call


def amount_to_hold(
    call: CallStart,
    unit: Unit,
    reserve: int | Literal["worst"] | None,
    dearest: int | None,
    prices: Prices | None,
) -> int | None:
    """The amount to hold for a call; None if it is unknown. ``dearest``: the dearest of the last calls, if any."""
    if call.endpoint == "router.decide":
        return 0
    if unit == "calls":
        return 1
    if isinstance(reserve, int):
        return reserve
    if reserve is None and dearest is not None:
        return dearest
    output = FIRST_OUTPUT if reserve is None else WORST_OUTPUT
    return worst_case(call, unit, prices, output=output)


def worst_case(call: CallStart, unit: Unit, prices: Prices | None, *, output: int) -> int | None:
    """The most that a call may take; None if a price that it needs is unknown.

    ``output``: tokens of each answer, if the call has no ``max_tokens``.
    """
    if unit == "calls":
        return 1
    prompt = _prompt_tokens(call.params)
    lengths = [_count(call.params.get(name)) for name in ("max_tokens", "max_completion_tokens")]
    completion = (max(lengths) or output) * (_count(call.params.get("n")) or 1)
    if unit == "tokens":
        return min(prompt + completion, MOST)
    if prices is None:
        return None
    costs = [
        prices.cost(model, prompt_tokens=prompt, completion_tokens=completion)
        for model in _may_answer(call)
    ]
    priced = [cost for cost in costs if cost is not None]
    return whole(max(priced)) if priced and len(priced) == len(costs) else None


def _may_answer(call: CallStart) -> tuple[str, ...]:
    if not call.models:
        return model_facts.ROUTED if call.model == ROUTER else (call.model,)
    provider = call.params.get("provider")
    if not isinstance(provider, str):
        return call.models
    return tuple(model if "/" in model else f"{provider}/{model}" for model in call.models)


def _prompt_tokens(params: Mapping[str, object]) -> int:
    prompt, messages, tools = params.get("prompt"), params.get("messages"), params.get("tools")
    if prompt is not None:
        return tokens.in_text(prompt if isinstance(prompt, str) else _as_text(prompt))
    listed: Any = messages  # of any form: the service reports what is wrong with it
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        return tokens.in_messages(listed, tools if isinstance(tools, (list, tuple)) else ())
    return tokens.in_text(_as_text(messages)) + tokens.in_text(_as_text(tools))


def _as_text(value: object) -> str:
    return "" if value is None else to_json(value, fallback=str).decode()


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


# After it


class Count:
    """What a call took: ``spent``, of which ``assumed`` was not stated. ``typical``: what the next may take."""

    __slots__ = ("assumed", "spent", "typical")

    def __init__(self, spent: int = 0, assumed: int = 0, typical: int | None = None) -> None:
        self.spent = min(spent, MOST)
        self.assumed = min(assumed, MOST)
        self.typical = typical


def count_outcome(outcome: Outcome, reserved: int, unit: Unit, prices: Prices | None) -> Count:
    """What a call took, for which ``reserved`` was held.

    The stated amount; else the estimate of a complete answer; else (the answer broke off, was left, or has no price)
    the larger of reservation and estimate. Each earlier attempt that may be billed adds its stated cost, else
    one reservation.
    """
    if outcome.endpoint == "router.decide":
        return Count(0 if unit == "calls" else _read_amount(outcome, unit) or 0)
    if outcome.status == "refused":
        return Count()
    attempts = [attempt for attempt in outcome.call.attempts if not _is_decision(attempt, outcome)]
    earlier = _count_failures(attempts[:-1], reserved, unit)
    if not _may_be_billed(outcome, attempts):
        return earlier
    stated = _read_amount(outcome, unit)
    if stated is not None:
        return Count(stated + earlier.spent, earlier.assumed, stated)
    estimate = _estimate(outcome, unit, prices)
    if estimate is not None and outcome.status == "ok":
        return Count(estimate + earlier.spent, earlier.assumed, estimate)
    larger = max(reserved, estimate or 0)
    return Count(larger + earlier.spent, larger + earlier.assumed, larger)


def _count_failures(attempts: list[Attempt], reserved: int, unit: Unit) -> Count:
    """What failed attempts took: the USD that the service stated for them, else one reservation each."""
    failures = [attempt for attempt in attempts if attempt.may_be_billed]
    costs = [cost for attempt in failures if (cost := exact_usd(attempt.cost_usd)) is not None]
    stated = [whole(cost) for cost in costs] if unit == "usd" else []
    assumed = reserved * (len(failures) - len(stated))
    return Count(sum(stated) + assumed, assumed)


def _read_amount(outcome: Outcome, unit: Unit) -> int | None:
    usage = outcome.usage
    if unit == "calls":
        return 1
    if usage is None:
        return None
    if unit == "usd":
        return None if usage.cost is None else whole(usage.cost)
    if usage.total_tokens is not None:
        return usage.total_tokens
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + usage.completion_tokens


def _estimate(outcome: Outcome, unit: Unit, prices: Prices | None) -> int | None:
    if unit == "tokens":
        counted = counted_tokens(outcome)
        return None if counted is None else sum(counted)
    estimate = with_estimate(Entry.of(outcome), outcome, prices).estimate
    return None if estimate is None else whole(estimate.cost)


def _may_be_billed(outcome: Outcome, attempts: list[Attempt]) -> bool:
    """Whether the last attempt may have cost anything. Not one that was refused, or never sent."""
    if outcome.status == "ok" or outcome.usage is not None:
        return True
    if not attempts:
        return outcome.status == "aborted"
    return attempts[-1].may_be_billed or attempts[-1].error is None


def _is_decision(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether an attempt is the decision of decide-then-call, which is an outcome of its own and not billed."""
    return outcome.endpoint == "chat.completions" and attempt.model == ROUTER
