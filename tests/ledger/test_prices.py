"""What an answer without a stated cost may have cost: marked as an estimate, never mixed with what was billed."""

import pickle
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import (
    AsyncLunar,
    CallInfo,
    ChatCompletion,
    ConfigurationError,
    Ledger,
    Lunar,
    Model,
    Outcome,
    Prices,
    Usage,
)
from lunar_core.cost.counting import prompt_tokens
from lunar_core.wire import tokens

MODELS = [
    Model(
        id="gpt-4o",
        input_per_million=2.5,
        output_per_million=10,
        cache_input_per_million=1.25,
        providers=[
            {"id": "openai", "input_per_million": 2.5, "output_per_million": 10},
            {"id": "azure", "input_per_million": 3, "output_per_million": 12},
            {"id": "half", "input_per_million": 3},
        ],
    ),
    Model(id="free", input_per_million=0, output_per_million=0),
    Model(id="unknown"),
    Model(id="in-only", input_per_million=1),
]
PRICES = Prices.of(MODELS)


def cost(model, prompt=0, completion=0, cached=0, prices=PRICES):
    return prices.cost(
        model, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached
    )


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_cost_is_exact(prompt, completion, cached):
    cached = min(cached, prompt)
    with localcontext(Context(prec=2)):
        told = cost("gpt-4o", prompt, completion, cached)
    with localcontext(Context(prec=99)):
        amounts = (prompt - cached) * Decimal("2.5"), cached * Decimal("1.25"), completion * 10
        assert told == sum(amounts) / 10**6


def test_a_provider_is_asked_first_and_then_the_model_alone():
    assert cost("azure/gpt-4o", 10**6, 10**6) == 15
    assert cost("openai/gpt-4o", 10**6) == Decimal("2.5")
    assert cost("nobody/gpt-4o", 10**6) == Decimal("2.5")
    assert cost("half/gpt-4o", 10**6, 10**6) == Decimal("12.5")  # as it lacks a price that it takes
    assert (
        cost("azure/gpt-4o", 10**6, 0, 10**6) == 3
    )  # without a price of its own, what is cached costs the same


@pytest.mark.parametrize("model", ["unknown", "nobody", "openai/nobody", ""])
def test_an_unknown_price_is_none_and_not_zero(model):
    assert cost(model, 10, 10) is None
    assert cost("free", 10, 10) == 0


def test_a_price_that_is_not_needed_may_be_missing():
    assert cost("in-only", 10**6) == 1
    assert cost("in-only", 10**6, 1) is None


def test_the_first_that_knows_is_asked():
    mine = Prices.of([Model(id="gpt-4o", input_per_million=1, output_per_million=1)])
    assert cost("gpt-4o", 10**6, prices=mine | PRICES) == 1
    assert cost("free", 10**6, prices=mine | PRICES) == 0
    assert cost("gpt-4o", 10**6, prices=PRICES | mine) == Decimal("2.5")
    with pytest.raises(TypeError):
        mine | {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_tokens", -1),
        ("prompt_tokens", 1.5),
        ("completion_tokens", True),
        ("completion_tokens", "3"),
        ("cached_tokens", 11),
        ("model", None),
    ],
)
def test_what_is_no_count_is_refused(name, value):
    counts = {"model": "gpt-4o", "prompt_tokens": 10, "completion_tokens": 1, name: value}
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        PRICES.cost(**counts)


@pytest.mark.parametrize("models", [None, "gpt-4o", {"id": "gpt-4o"}, [{"id": "gpt-4o"}], 3])
def test_what_is_no_price_list_is_refused(models):
    with pytest.raises(ConfigurationError, match=r"^models: "):
        Prices.of(models)


def test_prices_are_pickled():
    both = PRICES | Prices.bundled()
    copy = pickle.loads(pickle.dumps(both))
    assert cost("gpt-4o", 10, prices=copy) == cost("gpt-4o", 10)
    assert repr(copy) == repr(both)


# The bundled ones


def test_the_bundled_prices_follow_the_same_rule():
    bundled = Prices.bundled()
    parts = [
        cost("gpt-4o-mini", *tokens, prices=bundled)
        for tokens in ((10**6,), (0, 10**6), (10**6, 0, 10**6))
    ]
    assert None not in parts
    fresh, out, cached = parts
    assert cached < fresh < out
    assert (
        cost("gpt-4o-mini", 300, 20, 100, prices=bundled)
        == (200 * fresh + 100 * cached + 20 * out) / 10**6
    )
    assert cost("openai/gpt-4o-mini", 300, prices=bundled) == 300 * fresh / 10**6
    assert cost("no-such-provider/gpt-4o-mini", 300, prices=bundled) == 300 * fresh / 10**6
    assert cost("no-such-model", 300, prices=bundled) is None
    with localcontext(Context(prec=2)):
        rounded_nowhere = cost("gpt-4o-mini", 1_234_567, prices=bundled)
    assert rounded_nowhere == 1_234_567 * fresh / 10**6


def test_the_bundled_prices_take_no_network(socket_disabled):
    assert cost("gpt-4o-mini", 300, prices=Prices.bundled()) > 0


# In a ledger


def outcome(answer=None, usage=None, model="gpt-4o", **fields):
    parts = {
        "call": CallInfo(call_id="call_1"),
        "endpoint": "chat.completions",
        "status": "ok",
        "model": model,
        "usage": usage,
        "params": {"messages": [{"role": "user", "content": "one two three four"}]},
        "read_answer": lambda: answer,
    }
    return Outcome(**parts | fields)


ANSWER = ChatCompletion(choices=[{"message": {"role": "assistant", "content": "It is so."}}])


def entry_for(outcome, kind, tmp_path, prices=PRICES):
    ledger = (
        Ledger(prices=prices)
        if kind == "memory"
        else Ledger.open(tmp_path / "costs.db", prices=prices)
    )
    with ledger:
        ledger.after(outcome)
        (entry,) = ledger
        assert ledger.total.estimated == (entry.estimate.cost if entry.estimate else 0)
        return entry


@pytest.mark.parametrize("kind", ["memory", "stored"])
def test_counted_tokens_without_a_cost_are_estimated(kind, tmp_path):
    usage = Usage(
        prompt_tokens=100, completion_tokens=10, prompt_tokens_details={"cached_tokens": 40}
    )
    entry = entry_for(outcome(ANSWER, usage), kind, tmp_path)
    assert entry.cost is None
    assert entry.unpriced
    assert (entry.estimate.prompt_tokens, entry.estimate.completion_tokens) == (100, 10)
    assert entry.estimate.cost == Decimal("0.0003")
    assert (entry.estimate.tokens_estimated, entry.estimate.source) == (False, "service")


@pytest.mark.parametrize("kind", ["memory", "stored"])
def test_tokens_that_nobody_counted_are_counted_as_the_service_books_them(kind, tmp_path):
    entry = entry_for(outcome(ANSWER), kind, tmp_path)
    assert (entry.prompt_tokens, entry.completion_tokens) == (0, 0)
    assert entry.estimate.tokens_estimated
    assert entry.estimate.prompt_tokens == 5  # 1.25 × 4 words
    assert entry.estimate.completion_tokens == tokens.in_text("It is so.")


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": Usage(prompt_tokens=1, completion_tokens=1, total_cost_usd=0.5)},
        {"usage": Usage(prompt_tokens=1, completion_tokens=1, total_cost_usd=0.0)},
        {"model": "unknown"},
        {"status": "failed"},
        {"endpoint": "router.decide"},
        {"params": {}},
    ],
    ids=["cost stated", "cost of zero", "no price", "failed", "decision", "prompt not known"],
)
def test_what_has_a_cost_or_was_no_answer_or_has_no_price_has_no_estimate(fields, tmp_path):
    assert entry_for(outcome(**fields), "memory", tmp_path).estimate is None


def test_the_answering_providers_prices_count_and_the_list_is_named(tmp_path):
    usage = Usage(prompt_tokens=10**6, completion_tokens=0)
    assert entry_for(outcome(usage=usage, provider="azure"), "memory", tmp_path).estimate.cost == 3
    bundled = entry_for(
        outcome(usage=usage, model="gpt-4o-mini"), "memory", tmp_path, PRICES | Prices.bundled()
    )
    assert bundled.estimate.source.startswith("genai-prices ")


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"messages": []}, 1),
        ({"messages": [{"role": "user", "content": "a b"}, {"role": "user", "content": "c d"}]}, 5),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a b c d"}, {"type": "image_url"}],
                    }
                ]
            },
            5,
        ),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, 1),
        ({"prompt": "a b c d e f g h"}, 10),
        ({"prompt": ["a b", "c d"]}, 5),
    ],
)
def test_a_prompt_is_counted_by_its_words(params, told):
    assert prompt_tokens(params) == told


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stream_of_the_observed_service_is_estimated_as_it_is_billed(
    asynchronous, tmp_path, observed
):
    settings = {"api_key": observed.api_key, "base_url": observed.url}
    turns = [{"role": "user", "content": "Write a haiku about rain"}]
    with Lunar(**settings) as client:
        prices = Prices.of(client.models.prices())
    with Ledger.open(tmp_path / "costs.db", prices=prices) as ledger:
        call = {"model": "gpt-4o-mini", "messages": turns, "stream": True}
        if asynchronous:
            async with (
                AsyncLunar(**settings, observers=[ledger]) as client,
                await client.chat.completions.create(**call) as stream,
            ):
                text = "".join([c.choices[0].delta.content or "" async for c in stream])
        else:
            with (
                Lunar(**settings, observers=[ledger]) as client,
                client.chat.completions.create(**call) as stream,
            ):
                text = "".join(c.choices[0].delta.content or "" for c in stream)
        (entry,) = ledger
        assert entry.cost is None
        assert entry.streamed
        estimate = entry.estimate
        assert estimate.prompt_tokens == int(1.25 * 5)
        assert estimate.completion_tokens == tokens.in_text(text)
        assert estimate.cost == cost(
            "gpt-4o-mini", estimate.prompt_tokens, estimate.completion_tokens, prices=prices
        )
        assert ledger.total.estimated == estimate.cost
        assert ledger.total_cost == 0
        assert (ledger.total.unpriced, ledger.total.unknown) == (1, 0)


@pytest.fixture(scope="module")
def observed():
    from lunar_core import sandbox

    with sandbox.run(dialect="observed") as running:
        yield running
