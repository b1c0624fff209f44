"""Chooses one of the profiled models for a prompt, by a table or by the vendor's engine.

The table's rule, in full. The prompt is the text of the last user message.

1. Its **cluster** is the topic of ``TOPICS`` whose words it has
   most of, the first among equals; ``general`` when it has none. ``cluster_id`` is its number.
2. A model's **expected_error** is its profile's entry for that topic.
3. **cost_adjusted_score** = ``expected_error + cost_weight * price``, where ``price`` is the
   model's mean price in USD per 1,000 tokens, as in the service: a weight of 0.3 does no more
   than break ties, one of 20 to 80 trades quality for money. No score is rounded.
4. The lowest score wins. Among equals the first candidate wins, often the dearest: candidates are
   in the request's order of ``models``, or in the price list's without ``models``.

The service was observed to break ties so. The reference does not mention it, so both dialects do
the same. Rule 4 also applies to the engine's scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from lunar_core.sandbox.catalogue import TOPICS, Model
from lunar_core.sandbox.prompt import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Route:
    """A decision."""

    model: str
    provider: str
    expected_error: float
    score: float
    cluster: int
    reasoning: str
    scores: Mapping[str, float]

    def as_documented(self) -> dict[str, Any]:
        """The six fields of the reference's ``routing``."""
        return {
            "selected_model": self.model,
            "selected_provider": self.provider,
            "expected_error": self.expected_error,
            "cost_adjusted_score": self.score,
            "cluster_id": self.cluster,
            "reasoning": self.reasoning,
        }

    def as_headers(self) -> dict[str, str]:
        """The two headers in which the observed backend states a stream's route."""
        return {"X-Routing-Model": self.model, "X-Routing-Cluster": str(self.cluster)}


class Router(Protocol):
    """Chooses among models that have a profile."""

    name: str
    version: str | None

    async def route(self, prompt: str, models: Sequence[Model], cost_weight: float) -> Route:
        """Choose one of ``models``: the first of them wins a tie."""
        ...


class TableRouter:
    """Chooses by the rule above, which needs only its table."""

    name = "table"
    version: str | None = None

    async def route(self, prompt: str, models: Sequence[Model], cost_weight: float) -> Route:
        """Choose by the table."""
        cluster, topic, topic_words = _find_cluster(prompt)
        errors = {model.id: (model.profile or ())[cluster] for model in models}
        costs = {model.id: cost_weight * model.cost_per_1k_tokens for model in models}
        scores = {name: errors[name] + costs[name] for name in errors}
        best = min(models, key=lambda model: scores[model.id])
        because = ", ".join(topic_words) or "no topic's words"
        lines = [f"Topic '{topic}' ({because}); cost_weight {Decimal(f'{cost_weight:g}'):f}."]
        lines += [
            f"  {name}: error={errors[name]:.4f} + cost={costs[name]:.4f} = {score:.4f}"
            f"{'  <- selected' if name == best.id else ''}"
            for name, score in sorted(scores.items(), key=lambda item: item[1])
        ]
        return Route(
            model=best.id,
            provider=best.owner,
            expected_error=errors[best.id],
            score=scores[best.id],
            cluster=cluster,
            reasoning="\n".join(lines),
            scores=scores,
        )


def _find_cluster(prompt: str) -> tuple[int, str, list[str]]:
    """Return the prompt's cluster, its topic, and which of the topic's words the prompt has."""
    stems = words(prompt[:20_000])
    matches = {
        topic: [stem for stem in stems if stem in topic_stems]
        for topic, topic_stems in _STEMS.items()
    }
    best = max(matches, key=lambda topic: len(matches[topic]))
    return list(TOPICS).index(best), best, sorted(set(matches[best]))


_STEMS = {topic: frozenset(words(" ".join(names))) for topic, names in TOPICS.items()}
