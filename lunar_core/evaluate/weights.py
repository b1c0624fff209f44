"""What the decisions at one weight of cost come to: cost, expected error, shares, ties. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from lunar_core.batch.rows import RowId
from lunar_core.cost.amounts import exact_sum
from lunar_core.cost.prices import Prices
from lunar_core.evaluate.decisions import Decision
from lunar_core.evaluate.intervals import expected_error_at_random, shares_of


@dataclass(frozen=True)
class WeightResult:
    """What routing comes to at one weight of cost.

    ``cost_per_1000``: USD for 1,000 answers, an estimate; None where a model's price is not known. ``saved``: the
    part of the baseline's cost that is not spent (negative: more is). ``expected_error``: the mean of the router's
    own expectations (0 to 1). ``shuffled_error``: what the router would expect of the same mix assigned at random.
    ``shares``: by model, the part of the prompts. ``ties``: prompts whose best score two models had. What the
    service does not tell is None.
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
    """The one model that routing is compared with; ``expected_error`` is None where the service tells no scores."""

    model: str
    cost_per_1000: Decimal | None
    expected_error: float | None


def weight_result(
    decisions: list[Decision],
    errors: Mapping[RowId, Mapping[str, float]],
    baseline: str,
    prices: Prices,
) -> WeightResult:
    """Sum up the decisions at one weight. ``errors``: of each prompt, by model, where they are told."""
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
        saved=None if cost is None or not alone else float(1 - cost / alone),
        expected_error=sum(expected) / len(expected) if len(expected) == len(decisions) else None,
        shuffled_error=expected_error_at_random(shares, scores) if complete else None,
        shares=shares,
        ties=None if None in ties else sum(map(bool, ties)),
    )


def cost_per_1000(
    decisions: Sequence[Decision], prices: Prices, *, model: str | None = None
) -> Decimal | None:
    """USD for 1,000 answers like these: as billed where they were, else by ``prices``. None if one is not known."""
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
    return exact_sum(costs) * 1000 / len(decisions)
