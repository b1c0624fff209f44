"""Asks the router for decisions alone: the model for each prompt at each weight of cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lunar_core.batch.rows import RowId
from lunar_core.batch.running import run_workers
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.amounts import exact_sum
from lunar_core.cost.entries import model_name
from lunar_core.cost.ledger import Ledger
from lunar_core.errors import LunarError, describe_error
from lunar_core.evaluate.prompts import Prompt
from lunar_core.observers import observing
from lunar_core.types.completions import RoutingDecision


@dataclass(frozen=True)
class Decision:
    """The router's decision for one prompt at one weight.

    ``expected_error``: the router's own expectation (0 to 1). ``scores``: of all candidates, lower is better; None if
    the service does not state them. ``cost``: USD billed for the answer, if there was one.
    """

    prompt: RowId
    weight: float | None
    model: str
    expected_error: float | None = None
    cluster: int | None = None
    scores: Mapping[str, float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None

    @property
    def is_tied(self) -> bool | None:
        """Whether two models share the best score; None if the scores are unknown."""
        if self.scores is None:
            return None
        best = min(self.scores.values())
        return sum(math.isclose(score, best, abs_tol=1e-12) for score in self.scores.values()) > 1


@dataclass(frozen=True)
class Decisions:
    """All decisions. ``failures``: the errors of prompts that are left out.

    ``stated_cost``: USD that the service billed for the decisions; None if it stated none.
    """

    prompts: tuple[Prompt, ...]
    decisions: tuple[Decision, ...]
    failures: Mapping[RowId, str]
    stated_cost: Decimal | None


async def ask_decisions(
    client: AsyncLunar,
    prompts: Sequence[Prompt],
    *,
    weights: Sequence[float],
    models: Sequence[str] | None,
    output_tokens: int,
    concurrency: int,
) -> Decisions:
    """Ask for a decision on each prompt at each weight, ``concurrency`` at once.

    A prompt that fails at one weight is left out at all weights, so that they stay comparable. Raises what the first
    request raises: a wrong key or address fails for all.
    """
    bills = Ledger()
    decisions: list[Decision] = []
    failures: dict[RowId, str] = {}
    waiting = deque((prompt, weight) for prompt in prompts for weight in weights)

    async def decide(prompt: Prompt, weight: float) -> None:
        choices: dict[str, Any] = {} if models is None else {"models": list(models)}
        decision = await client.router.decide(
            messages=prompt.messages,
            cost_weight=weight,
            **choices,
        )
        decisions.append(_decision(prompt, weight, decision, output_tokens))

    async def work() -> None:
        while waiting:
            prompt, weight = waiting.popleft()
            try:
                await decide(prompt, weight)
            except LunarError as error:
                failures[prompt.id] = describe_error(error)

    with observing(bills):
        await decide(*waiting.popleft())
        await run_workers(work, min(concurrency, len(waiting)))
    stated = [entry.cost for entry in bills if entry.cost is not None]
    order = {prompt.id: number for number, prompt in enumerate(prompts)}
    return Decisions(
        tuple(prompt for prompt in prompts if prompt.id not in failures),
        tuple(
            sorted(
                (decision for decision in decisions if decision.prompt not in failures),
                key=lambda decision: order[decision.prompt],
            )
        ),
        failures,
        exact_sum(stated) if stated else None,
    )


def _decision(
    prompt: Prompt, weight: float, decision: RoutingDecision, output_tokens: int
) -> Decision:
    return Decision(
        prompt=prompt.id,
        weight=weight,
        model=model_name(decision.selected_model),
        expected_error=decision.expected_error,
        cluster=decision.cluster_id,
        scores=scores_of((decision.model_extra or {}).get("all_scores")),
        prompt_tokens=prompt.tokens,
        completion_tokens=output_tokens,
    )


def scores_of(stated: object) -> dict[str, float] | None:
    """The service's ``all_scores``; None unless they are numbers of at least two models.

    >>> scores_of({"a": 0.1, "b": 0.2}), scores_of("none")
    ({'a': 0.1, 'b': 0.2}, None)
    """
    if not isinstance(stated, Mapping) or len(stated) < 2:
        return None
    scores = {
        model_name(str(name)): float(score)
        for name, score in stated.items()
        if isinstance(score, (int, float)) and math.isfinite(score)
    }
    return scores if len(scores) == len(stated) else None
