"""The table router follows its documented rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lunar_core.sandbox.catalogue import MODELS, PROFILED, TOPICS
from tests.sandbox.raw import post

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


def decide(sandbox: Sandbox, prompt: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    reply = post(sandbox, "/v1/router", {"messages": messages, "execute": False, **body})
    assert reply.status == 200, reply.body
    return dict(reply.json()["routing"])


@pytest.mark.parametrize(
    ("prompt", "topic"),
    [
        ("What is the capital of France?", "general"),
        ("Refactor this Python function", "code"),
        ("Prove the theorem about prime numbers", "mathematics"),
        ("A patient has chest pain", "medicine"),
        ("Write a haiku", "writing"),
        ("Translate this idiom into German", "translation"),
        ("Is this contract clause legal?", "law"),
        ("", "general"),
    ],
)
def test_the_cluster_is_the_topic_with_the_most_words(
    lunar_sandbox: Sandbox, prompt: str, topic: str
) -> None:
    routing = decide(lunar_sandbox, prompt)
    assert routing["cluster_id"] == list(TOPICS).index(topic)
    assert f"'{topic}'" in routing["reasoning"]


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 3.0])
def test_the_score_is_the_error_and_the_weighted_price(
    lunar_sandbox: Sandbox, weight: float
) -> None:
    dearest = max(float(model.input + model.output) for model in PROFILED)
    for cluster, topic in enumerate(TOPICS):
        prompt = " ".join(sorted(TOPICS[topic])) or "Hello"
        routing = decide(lunar_sandbox, prompt, cost_weight=weight)
        scores = {
            model.id: (model.profile or ())[cluster]
            + weight * float(model.input + model.output) / dearest
            for model in PROFILED
        }
        best = min(scores, key=lambda name: scores[name])
        assert routing["selected_model"] == best
        assert routing["selected_provider"] == MODELS[best].owner
        assert routing["cost_adjusted_score"] == pytest.approx(scores[best], abs=1e-6)
        assert routing["expected_error"] == (MODELS[best].profile or ())[cluster]


def test_the_weight_moves_choices_to_cheaper_models(lunar_sandbox: Sandbox) -> None:
    prompts = ["Prove it", "Write a haiku", "Debug my code", "Hello"]
    free = {decide(lunar_sandbox, p)["selected_model"] for p in prompts}
    dear = {decide(lunar_sandbox, p, cost_weight=5)["selected_model"] for p in prompts}
    assert len(free) > 1
    assert dear == {"mistral-small-latest"}


def test_among_equals_the_first_in_registry_order_wins(lunar_sandbox: Sandbox) -> None:
    # Both err alike on code-free small talk: 0.14 each.
    models = ["mistral-small-latest", "gpt-4o-mini"]
    assert decide(lunar_sandbox, "Hello", models=models)["selected_model"] == "gpt-4o-mini"


def test_the_last_user_message_is_routed(lunar_sandbox: Sandbox) -> None:
    messages = [
        {"role": "system", "content": "Prove theorems"},
        {"role": "user", "content": "Prove it"},
        {"role": "assistant", "content": "Proof."},
        {"role": "user", "content": "Now translate it into French"},
    ]
    reply = post(lunar_sandbox, "/v1/router", {"messages": messages, "execute": False})
    assert reply.json()["routing"]["cluster_id"] == list(TOPICS).index("translation")
