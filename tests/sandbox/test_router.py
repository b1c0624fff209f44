"""The table router follows its documented rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lunar_core import BREAK_TIES
from lunar_core.sandbox.catalogue import MODELS, PROFILED, TOPICS
from tests.sandbox.raw import get, post

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


@pytest.mark.parametrize("weight", [0.0, 1e-6, 0.5, 20.0, 100.0])
def test_the_score_is_the_error_and_the_weighted_price_of_a_thousand_tokens(
    lunar_sandbox: Sandbox, weight: float
) -> None:
    for cluster, topic in enumerate(TOPICS):
        prompt = " ".join(sorted(TOPICS[topic])) or "Hello"
        routing = decide(lunar_sandbox, prompt, cost_weight=weight)
        scores = {
            model.id: (model.profile or ())[cluster]
            + weight * float(model.input + model.output) / 2 / 1000
            for model in PROFILED
        }
        best = min(scores, key=lambda name: scores[name])
        assert routing["selected_model"] == best
        assert routing["selected_provider"] == MODELS[best].owner
        assert routing["cost_adjusted_score"] == pytest.approx(scores[best], abs=1e-12)
        assert routing["expected_error"] == (MODELS[best].profile or ())[cluster]


def test_gpt_4o_weighs_as_much_as_in_the_service() -> None:
    assert MODELS["gpt-4o"].cost_per_1k_tokens == 0.00625


def test_weights_up_to_a_hundred_trade_quality_for_money(lunar_sandbox: Sandbox) -> None:
    chosen = {
        topic: [
            decide(lunar_sandbox, prompt, cost_weight=weight)["selected_model"]
            for weight in (0, 0.3, 22, 70, 100)
        ]
        for topic, prompt in {"law": "Is it legal?", "math": "Prove it", "code": "Debug it"}.items()
    }
    turbo, full, mini, large = "gpt-4-turbo", "gpt-4o", "gpt-4o-mini", "mistral-large-latest"
    assert chosen == {
        "law": [turbo, turbo, full, mini, mini],
        "math": [turbo, turbo, full, large, mini],
        "code": [large, large, large, mini, mini],
    }


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("order", [1, -1])
def test_among_equals_the_first_of_the_request_wins_even_if_it_is_the_dearest(
    lunar_sandbox_factory: Any, dialect: str, order: int
) -> None:
    sandbox = lunar_sandbox_factory(dialect=dialect)
    models = ["gpt-4o", "gpt-4o-mini"][::order]  # On small talk both err alike.
    routing = decide(sandbox, "Hello", models=models)
    assert routing["selected_model"] == models[0]
    table = [line.split(":")[0].strip() for line in routing["reasoning"].splitlines()[1:]]
    assert table == models


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_without_models_the_first_of_the_price_list_wins_among_equals(
    lunar_sandbox_factory: Any, dialect: str
) -> None:
    sandbox = lunar_sandbox_factory(dialect=dialect)
    prices = [model["id"] for model in get(sandbox, "/v1/pricing/models").json()]
    assert prices.index("gpt-4o") < prices.index("gpt-4o-mini")
    assert decide(sandbox, "Hello")["selected_model"] == "gpt-4o"


@pytest.mark.parametrize("prompt", ["Hello", "Which dose?", "Write a haiku", "Is it legal?"])
def test_break_ties_picks_the_cheapest_of_the_tied_and_changes_nothing_else(
    lunar_sandbox: Sandbox, prompt: str
) -> None:
    cluster = decide(lunar_sandbox, prompt)["cluster_id"]
    least = min((model.profile or ())[cluster] for model in PROFILED)
    tied = [model for model in PROFILED if (model.profile or ())[cluster] == least]
    cheapest = min(tied, key=lambda model: model.input + model.output)
    dearest_first = [m.id for m in sorted(PROFILED, key=lambda m: -(m.input + m.output))]
    routing = decide(lunar_sandbox, prompt, models=dearest_first, cost_weight=BREAK_TIES)
    assert routing["selected_model"] == cheapest.id
    assert routing["expected_error"] == least


def test_the_last_user_message_is_routed(lunar_sandbox: Sandbox) -> None:
    messages = [
        {"role": "system", "content": "Prove theorems"},
        {"role": "user", "content": "Prove it"},
        {"role": "assistant", "content": "Proof."},
        {"role": "user", "content": "Now translate it into French"},
    ]
    reply = post(lunar_sandbox, "/v1/router", {"messages": messages, "execute": False})
    assert reply.json()["routing"]["cluster_id"] == list(TOPICS).index("translation")
