"""What routing saved: the tokens of the same calls, priced on another model. States its assumption."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from lunar_core.cost.amounts import EXACT
from lunar_core.cost.entries import Entry
from lunar_core.cost.price_cache import PriceCache
from lunar_core.cost.prices import Prices, checked_prices
from lunar_core.errors import ConfigurationError
from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.model_facts import ROUTED

UNROUTED_ENDPOINTS = ("router.decide", "cache")
"""Endpoints whose entries are no routed answers."""


@dataclass(frozen=True)
class Savings:
    """What ``calls`` routed answers cost, and what their tokens would have cost on a baseline. Amounts are USD.

    ``saved``: ``baseline_cost`` minus ``actual``, below 0 if the router chose dearer models. ``left_out``: routed
    answers without a stated cost, or without a known baseline price; the other figures exclude them. ``assumption``:
    one sentence that names the baseline and the source of the prices.

    >>> ledger = Ledger(prices=Prices.of(Lunar().models.prices()))
    >>> with Lunar(observers=[ledger]) as client:
    ...     answer = client.router.create(messages=[{"role": "user", "content": "Count to 3"}])
    >>> savings = ledger.savings("gpt-4-turbo")
    >>> savings.calls, savings.saved > 0
    (1, True)
    """

    calls: int
    actual: Decimal
    baseline_cost: Decimal
    saved: Decimal
    left_out: int
    assumption: str

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON, with amounts as strings."""
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value
            for name, value in vars(self).items()
        }


class RoutedCall(NamedTuple):
    """The facts of a routed answer. ``model``: the one that answered. ``cost``: the billed USD."""

    model: str
    candidates: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: Decimal | None


@dataclass
class ModelSavings:
    """The routed answers of one model: those that were compared, and those that were left out."""

    calls: int = 0
    actual: Decimal = Decimal(0)
    baseline_cost: Decimal = Decimal(0)
    left_out: int = 0

    @property
    def saved(self) -> Decimal:
        return EXACT.subtract(self.baseline_cost, self.actual)

    def plus(self, other: ModelSavings) -> ModelSavings:
        """The sums of both."""
        return ModelSavings(
            self.calls + other.calls,
            EXACT.add(self.actual, other.actual),
            EXACT.add(self.baseline_cost, other.baseline_cost),
            self.left_out + other.left_out,
        )


class SavingsTally:
    """Adds savings up by the chosen model. Raises ConfigurationError that names a wrong argument."""

    def __init__(self, baseline: object, prices: object, own_prices: Prices | None) -> None:
        if baseline is not None and (not isinstance(baseline, str) or not baseline.strip()):
            raise ConfigurationError("baseline: expected the name of a model, or None")
        self._baseline = baseline
        self._prices = PriceCache(checked_prices(prices) or own_prices)
        self.models: dict[str, ModelSavings] = {}

    def add_entry(self, entry: Entry) -> None:
        """Count ``entry``, if it is a routed answer."""
        if is_routed_answer(entry):
            self.add(
                RoutedCall(
                    entry.model_name,
                    entry.candidates,
                    entry.prompt_tokens,
                    entry.completion_tokens,
                    entry.cached_tokens or 0,
                    entry.cost,
                )
            )

    def add(self, call: RoutedCall) -> None:
        """Count one routed answer."""
        savings = self.models.get(call.model)
        if savings is None:
            savings = self.models[call.model] = ModelSavings()
        baseline_cost = None if call.cost is None else self._baseline_cost(call)
        if call.cost is None or baseline_cost is None:
            savings.left_out += 1
            return
        savings.calls += 1
        savings.actual = EXACT.add(savings.actual, call.cost)
        savings.baseline_cost = EXACT.add(savings.baseline_cost, baseline_cost)

    def _baseline_cost(self, call: RoutedCall) -> Decimal | None:
        names = (self._baseline,) if self._baseline is not None else call.candidates or ROUTED
        costs = [
            cost
            for name in names
            if (
                cost := self._prices.cost(
                    name, call.prompt_tokens, call.completion_tokens, call.cached_tokens
                )
            )
            is not None
        ]
        return max(costs, default=None)

    def savings(self) -> Savings:
        """The savings so far."""
        whole = add_up_models(self.models.values())
        return Savings(
            calls=whole.calls,
            actual=whole.actual,
            baseline_cost=whole.baseline_cost,
            saved=whole.saved,
            left_out=whole.left_out,
            assumption=self._assumption(),
        )

    def _assumption(self) -> str:
        baseline = (
            f"the same tokens on {self._baseline}"
            if self._baseline is not None
            else "the same tokens on the dearest of each call's candidates whose price is known"
        )
        return f"Compared with {baseline}, at {self._prices.words()}."


def add_up_models(parts: Iterable[ModelSavings]) -> ModelSavings:
    """The sums over several models."""
    whole = ModelSavings()
    for part in parts:
        whole = whole.plus(part)
    return whole


def is_routed_answer(entry: Entry) -> bool:
    """Whether the router chose the model of this answer, and the answer is complete."""
    return (
        entry.status == "ok"
        and entry.endpoint not in UNROUTED_ENDPOINTS
        and (
            entry.routing is not None
            or entry.endpoint == "router"
            or entry.requested_model == ROUTER
        )
    )
