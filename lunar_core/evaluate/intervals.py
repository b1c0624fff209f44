"""95 % intervals, and the expected error of the same shares of models assigned at random. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from lunar_core.evaluate.decisions import Decision

T = TypeVar("T")
Interval = tuple[float, float]

_Z = 1.959963984540054
"""The z-score of a 95 % interval."""
RESAMPLES = 4_000
FURTHEST = 2
"""The largest difference of two results: the choice won and the control lost, or the other way round."""


def wilson_interval(successes: int, trials: int) -> Interval | None:
    """Wilson's 95 % interval of a share; None without trials.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if trials == 0:
        return None
    share = successes / trials
    scale = 1 + _Z**2 / trials
    middle = (share + _Z**2 / (2 * trials)) / scale
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(differences: Sequence[float], seed: int = 0) -> Interval | None:
    """A 95 % interval of a mean difference (-2 to 2): the percentile bootstrap's, with 4,000 resamples.

    Two differences are added, one at each end of the range, as Agresti and Coull add counts. Without them, equal values
    would give an interval of no width, and losses too rare for a small sample would be ruled out. None for fewer than
    two values.

    >>> bootstrap_interval([1, 1, 1])[0] < 0  # three wins show nothing
    True
    """
    if len(differences) < 2:
        return None
    values = [*differences, -FURTHEST, FURTHEST]
    chance = random.Random(seed)  # noqa: S311  # statistics, not a secret
    means = sorted(
        sum(chance.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES)
    )
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def make_control(choices: Sequence[T], seed: int = 0) -> list[T]:
    """The control for a choice: the same values, equally often, assigned at random.

    >>> sorted(make_control(["a", "b", "a"]))
    ['a', 'a', 'b']
    """
    control = list(choices)
    random.Random(seed).shuffle(control)  # noqa: S311  # statistics, not a secret
    return control


def expected_error_at_random(
    shares: Mapping[str, float], errors: Sequence[Mapping[str, float]]
) -> float | None:
    """The mean error of a mix that is assigned at random: exact, over all assignments.

    ``errors``: for each prompt, by model. None if one is missing.
    """
    if not errors or any(model not in scores for scores in errors for model in shares):
        return None
    return sum(
        share * sum(scores[model] for scores in errors) / len(errors)
        for model, share in shares.items()
    )


def shares_of(decisions: Sequence[Decision]) -> dict[str, float]:
    """The share of the decisions for each model, the largest first."""
    counts: dict[str, int] = {}
    for decision in decisions:
        counts[decision.model] = counts.get(decision.model, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {model: count / len(decisions) for model, count in ordered}
