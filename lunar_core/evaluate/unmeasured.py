"""Infers which topics the router has no measurements for. The service does not state it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lunar_core.batch.rows import RowId
from lunar_core.evaluate.decisions import Decision

_SAMPLES = 100
"""More questions than a topic has: a routing profile was seen to hold 26 at most."""
_CLOSE = 1e-6

RULE = (
    "inferred, as the service does not say it: a topic without sample questions was seen to carry each model's "
    "overall error, so the same errors stand on several topics, and are no shares of 100 questions or fewer"
)


@dataclass(frozen=True)
class Unmeasured:
    """``prompts`` on topics that look unmeasured, a lower bound; None if the service states too little.

    ``zeros``: prompts whose choice has an expected error of exactly 0.
    """

    prompts: int | None
    clusters: tuple[int, ...] = ()
    zeros: int = 0


def find_unmeasured(decisions: Iterable[Decision]) -> Unmeasured:
    """Infer it from decisions at a weight of nearly 0, where scores are errors."""
    errors: dict[int, frozenset[tuple[str, float]]] = {}
    prompts: dict[int, set[RowId]] = {}
    zeros = 0
    for decision in decisions:
        zeros += decision.expected_error == 0
        if decision.cluster is None or decision.scores is None:
            continue
        errors[decision.cluster] = frozenset(
            (model, round(score, 6)) for model, score in decision.scores.items()
        )
        prompts.setdefault(decision.cluster, set()).add(decision.prompt)
    if not errors:
        return Unmeasured(None, zeros=zeros)
    signatures = list(errors.values())
    clusters = tuple(
        sorted(
            cluster
            for cluster, signature in errors.items()
            if signatures.count(signature) > 1
            and not _are_shares_of_a_sample([error for _, error in signature])
        )
    )
    return Unmeasured(sum(len(prompts[cluster]) for cluster in clusters), clusters, zeros)


def _are_shares_of_a_sample(errors: list[float]) -> bool:
    """Whether all errors are shares of one small number of questions."""
    return any(
        all(abs(error * size - round(error * size)) <= _CLOSE * size for error in errors)
        for size in range(1, _SAMPLES + 1)
    )
