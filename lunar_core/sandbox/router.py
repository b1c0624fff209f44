"""Which of the profiled models answers a prompt: by a table, or by the vendor's engine.

The table's rule, in full. The prompt is the text of the last user message.

1. Its **cluster** is the topic of :data:`~lunar_core.sandbox.catalogue.TOPICS` whose words it has
   most of, the first among equals; ``general`` when it has none. ``cluster_id`` is its number.
2. A model's **expected_error** is its profile's entry for that topic.
3. **cost_adjusted_score** = ``expected_error + cost_weight * price``, where ``price`` is the
   model's mean price per token as a share of the dearest profiled model's (0 to 1).
4. The lowest score wins; among equals the first in registry order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lunar_core.sandbox.catalogue import PROFILED, TOPICS, Model
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
        """The two headers in which the observed backend tells a stream's route."""
        return {"X-Routing-Model": self.model, "X-Routing-Cluster": str(self.cluster)}


class Router(Protocol):
    """Chooses among models that have a profile."""

    name: str
    version: str | None

    async def route(self, prompt: str, models: Sequence[Model], cost_weight: float) -> Route:
        """Choose one of ``models``, which are in registry order."""
        ...


class TableRouter:
    """The rule above; needs nothing but its table."""

    name = "table"
    version: str | None = None

    async def route(self, prompt: str, models: Sequence[Model], cost_weight: float) -> Route:
        """Choose by the table."""
        cluster, topic, hits = _cluster(prompt)
        errors = {m.id: (m.profile or ())[cluster] for m in models}
        scores = {m.id: round(errors[m.id] + cost_weight * _price(m), 6) for m in models}
        best = min(models, key=lambda model: scores[model.id])
        evidence = ", ".join(hits) or "no topic's words"
        return Route(
            model=best.id,
            provider=best.owner,
            expected_error=errors[best.id],
            score=scores[best.id],
            cluster=cluster,
            reasoning=explain(
                f"Topic '{topic}' ({evidence}); cost_weight {cost_weight:g}.", best.id, scores
            ),
            scores=scores,
        )


def explain(first: str, best: str, scores: Mapping[str, float]) -> str:
    """Form the reasoning: a sentence, then the scores, best first."""
    ranked = sorted(scores.items(), key=lambda item: (item[1], item[0] != best))
    table = [
        f"  {model}: {score:.4f}{'  <- selected' if model == best else ''}"
        for model, score in ranked
    ]
    return "\n".join([first, *table])


def _cluster(prompt: str) -> tuple[int, str, list[str]]:
    prompt_words = words(prompt[:20_000])
    hits = {
        topic: [word for word in prompt_words if word in stems] for topic, stems in _STEMS.items()
    }
    best = max(hits, key=lambda topic: len(hits[topic]))
    return list(TOPICS).index(best), best, sorted(set(hits[best]))


def _price(model: Model) -> float:
    return float((model.input + model.output) / _DEAREST)


_STEMS = {topic: frozenset(words(" ".join(topic_words))) for topic, topic_words in TOPICS.items()}
_DEAREST = max(model.input + model.output for model in PROFILED)
