"""What the router knows: the engine's own profiles where its wheel is installed, else the sandbox's table, made up."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lunar_core.sandbox.catalogue import PROFILED


@dataclass(frozen=True)
class Profiles:
    """By model, how often it errs on each topic (0 to 1), and what 1,000 tokens cost in USD.

    ``samples``: how many questions each topic was measured with; None where it was not measured but made up.
    """

    errors: Mapping[str, Sequence[float]]
    prices: Mapping[str, float]
    samples: Sequence[int] | None

    def questions(self, topic: int) -> str:
        """How many questions like it the router knows, in words."""
        if self.samples is None:
            return "made up"
        count = self.samples[topic]
        if not count:
            return "no question like this"
        return f"{count} question{'' if count == 1 else 's'} like this"

    def alternative(self, chosen: str, topic: int) -> tuple[str, float]:
        """The best of the other models, the cheaper of equals, and how often it errs."""
        errors = {model: listed[topic] for model, listed in self.errors.items() if model != chosen}
        best = min(errors, key=lambda model: (errors[model], self.prices[model]))
        return best, errors[best]

    def trade_off(self, weight: float) -> tuple[float, float]:
        """Accuracy, and cost as a part of always-gpt-4o's, if the router chose each question's model at ``weight``."""
        counts = self.samples or [1] * len(self.errors["gpt-4o"])
        right = cost = 0.0
        for topic, count in enumerate(counts):
            best = min(
                self.errors,
                key=lambda model: self.errors[model][topic] + weight * self.prices[model],
            )
            right += count * (1 - self.errors[best][topic])
            cost += count * self.prices[best]
        return right / sum(counts), cost / (sum(counts) * self.prices["gpt-4o"])

    @property
    def accuracy_of_gpt_4o(self) -> float:
        """Of always the same model."""
        counts = self.samples or [1] * len(self.errors["gpt-4o"])
        wrong = sum(
            count * error for count, error in zip(counts, self.errors["gpt-4o"], strict=True)
        )
        return 1 - wrong / sum(counts)


def read_profiles() -> Profiles:
    """The profiles of the models that the sandbox routes among."""
    spec = importlib.util.find_spec("opentracy")
    if spec is None or spec.origin is None:
        return Profiles(
            {model.id: model.profile or () for model in PROFILED},
            {model.id: model.cost_per_1k_tokens for model in PROFILED},
            None,
        )
    folder = next((Path(spec.origin).parent / "_bundled_weights").glob("*/profiles"))
    files = {
        model.id: json.loads((folder / f"{model.id}.json").read_text(encoding="utf-8"))
        for model in PROFILED
    }
    return Profiles(
        {model: file["psi_vector"] for model, file in files.items()},
        {model: file["cost_per_1k_tokens"] for model, file in files.items()},
        [int(count) for count in files["gpt-4o"]["cluster_sample_counts"]],
    )
