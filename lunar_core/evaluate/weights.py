"""Sums the decisions at one weight of cost up: cost, expected error, shares, ties. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from lunar_core.batch.rows import RowId
from lunar_core.cost.amounts import EXACT, QUOTIENTS, exact_sum
from lunar_core.cost.prices import Prices
from lunar_core.evaluate.decisions import Decision
from lunar_core.evaluate.intervals import expected_error_at_random, shares_of


@dataclass(frozen=True)
class WeightResult:
    """The result of routing at one weight of cost. A value that the service does not state is None.

    ``cost_per_1000``: estimated USD for 1,000 answers; None if a model's price is unknown. ``saved``: the share of the
    baseline's cost that is saved (negative: extra cost). ``expected_error``: the mean of the router's expectations (0
    to 1). ``shuffled_error``: the router's expectation for the same mix assigned at random. ``shares``: the share of
    prompts by model. ``ties``: prompts whose best score two models share.
    """

    weight: float | None
    prompts: int
    cost_per_1000: Decimal | None
    saved: float | None
    expected_error: float | None
    shuffled_error: float | None
    shares: Mapping[str, float]
    ties: int | None


@dataclass(frozen=True)
class Baseline:
    """The model that routing is compared with. ``expected_error``: None if the service states no scores."""

    model: str
    cost_per_1000: Decimal | None
    expected_error: float | None


def weight_result(
    decisions: list[Decision],
    errors: Mapping[RowId, Mapping[str, float]],
    baseline: str,
    prices: Prices,
) -> WeightResult:
    """Sum the decisions at one weight up. ``errors``: for each prompt, by model, as far as they are known."""
    expected = [
        decision.expected_error for decision in decisions if decision.expected_error is not None
    ]
    ties = [decision.is_tied for decision in decisions]
    shares = shares_of(decisions)
    cost = cost_per_1000(decisions, prices)
    alone = cost_per_1000(decisions, prices, model=baseline)
    scores = [errors[decision.prompt] for decision in decisions if decision.prompt in errors]
    complete = len(scores) == len(decisions)
    return WeightResult(
        weight=decisions[0].weight,
        prompts=len(decisions),
        cost_per_1000=cost,
        saved=None if cost is None or not alone else 1 - float(QUOTIENTS.divide(cost, alone)),
        expected_error=sum(expected) / len(expected) if len(expected) == len(decisions) else None,
        shuffled_error=expected_error_at_random(shares, scores) if complete else None,
        shares=shares,
        ties=None if None in ties else sum(map(bool, ties)),
    )


def cost_per_1000(
    decisions: Sequence[Decision], prices: Prices, *, model: str | None = None
) -> Decimal | None:
    """USD for 1,000 such answers: as billed, else by ``prices``. None if a price is unknown."""
    costs = [
        decision.cost
        if model is None and decision.cost is not None
        else prices.cost(
            model or decision.model,
            prompt_tokens=decision.prompt_tokens,
            completion_tokens=decision.completion_tokens,
        )
        for decision in decisions
    ]
    if None in costs:
        return None
    whole = EXACT.multiply(exact_sum(costs), Decimal(1000))
    return QUOTIENTS.divide(whole, Decimal(len(decisions)))
