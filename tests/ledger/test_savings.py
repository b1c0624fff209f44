"""What routing saved is what the same tokens would have cost elsewhere, and what cannot be told is left out."""

from decimal import Decimal

import pytest

from lunar_core import ConfigurationError, Entry, Ledger, Model, Prices
from lunar_core.cost.savings import SavingsTally

PRICES = Prices.of(
    [
        Model(id="dear", input_per_million=10, output_per_million=30, cache_input_per_million=5),
        Model(id="cheap", input_per_million=1, output_per_million=3),
        Model(id="wordy", input_per_million=1, output_per_million=100),
    ]
)


class Steps:
    """A list with a step: past 1,000 tokens of the prompt, all cost double."""

    name = "steps"

    def cost(self, model, prompt, completion, cached):
        rate = Decimal(2 if prompt > 1_000 else 1) / 1_000
        return rate * (prompt + completion)


def routed(call_id, cost="0.001", **fields):
    tokens = {"prompt_tokens": 1_000, "completion_tokens": 100}
    known = {"endpoint": "router", "candidates": ("cheap", "dear")}
    return Entry(call_id, "cheap", cost=cost, **tokens | known | fields)


def ledger_of(*entries, prices=PRICES):
    ledger = Ledger(prices=prices)
    for entry in entries:
        ledger.add(entry)
    return ledger


def test_they_are_the_baselines_cost_less_the_actual_one():
    savings = ledger_of(routed("a"), routed("b", "0.002")).savings("dear")
    assert (savings.calls, savings.actual) == (2, Decimal("0.003"))
    assert savings.baseline_cost == 2 * Decimal("0.013")  # 1,000 at 10 and 100 at 30 USD a million
    assert savings.saved == Decimal("0.023")


def test_they_are_negative_where_the_router_chose_dearer():
    assert ledger_of(routed("a", "0.5")).savings("cheap").saved == Decimal("0.0013") - Decimal(
        "0.5"
    )


def test_without_a_baseline_each_call_is_compared_with_the_dearest_of_its_candidates():
    ledger = ledger_of(
        routed("a"),
        routed("b", candidates=("cheap", "wordy"), completion_tokens=1_000),
        routed("c", candidates=("cheap", "nobody-knows")),
    )
    wanted = Decimal("0.013") + Decimal("0.101") + Decimal("0.0013")
    assert ledger.savings().baseline_cost == wanted


def test_a_call_without_candidates_is_compared_with_all_that_the_router_knows():
    prices = Prices.of([Model(id="gpt-4-turbo", input_per_million=10, output_per_million=30)])
    savings = ledger_of(routed("a", candidates=()), prices=prices).savings()
    assert savings.baseline_cost == Decimal("0.013")


def test_what_has_no_cost_or_no_price_is_counted_as_left_out_and_nowhere_else():
    ledger = ledger_of(routed("a"), routed("b", None), routed("c", candidates=("nobody-knows",)))
    savings = ledger.savings()
    assert (savings.calls, savings.left_out) == (1, 2)
    assert savings.actual == Decimal("0.001")
    unknown = ledger.savings("nobody-knows")
    assert (unknown.calls, unknown.left_out, unknown.saved) == (0, 3, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "chat.completions", "routing": {"selected_model": "cheap"}},
        {"endpoint": "chat.completions", "requested_model": "router"},
        {"endpoint": "router"},
    ],
)
def test_a_routed_answer_is_one_however_it_was_routed(fields):
    assert ledger_of(routed("a", **fields)).savings("dear").calls == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "chat.completions", "requested_model": "cheap"},
        {"endpoint": "router.decide", "routing": {"selected_model": "cheap"}},
        {"endpoint": "cache", "routing": {"selected_model": "cheap"}, "cost": None, "saved": "1"},
        {"status": "failed"},
        {"status": "aborted"},
    ],
)
def test_what_is_no_routed_answer_is_in_no_figure(fields):
    savings = ledger_of(routed("a", **fields)).savings("dear")
    assert (savings.calls, savings.left_out, savings.actual) == (0, 0, 0)


def test_tokens_from_the_cache_are_priced_as_such():
    savings = ledger_of(routed("a", cached_tokens=400)).savings("dear")
    assert savings.baseline_cost == Decimal("0.006") + Decimal("0.002") + Decimal("0.003")


def test_no_more_tokens_come_from_the_cache_than_the_prompt_has():
    savings = ledger_of(routed("a", cached_tokens=5_000)).savings("dear")
    assert savings.baseline_cost == Decimal("0.005") + Decimal("0.003")


def test_a_price_list_with_steps_is_asked_for_each_call():
    short, long = routed("a"), routed("b", prompt_tokens=2_000)
    savings = ledger_of(short, long, prices=Prices(Steps())).savings("any")
    assert savings.baseline_cost == Decimal("1.1") + Decimal("4.2")


class StepsOfTheCache:
    """Past 1,000 tokens from the cache, those cost double."""

    name = "steps of the cache"

    def cost(self, model, prompt, completion, cached):
        rate = 2 if cached > 1_000 else 1
        return Decimal(prompt - cached + completion + rate * cached) / 1_000


def test_so_is_one_with_steps_for_tokens_from_the_cache():
    entry = routed("a", prompt_tokens=3_000, cached_tokens=2_000)
    savings = ledger_of(entry, prices=Prices(StepsOfTheCache())).savings("any")
    assert savings.baseline_cost == Decimal("5.1")


def test_a_price_list_without_steps_is_asked_a_few_times_only(monkeypatch):
    questions = []
    estimate = Prices.estimate
    monkeypatch.setattr(
        Prices, "estimate", lambda *words: questions.append(words) or estimate(*words)
    )
    tally = SavingsTally("dear", PRICES, None)
    for number in range(100):
        tally.add_entry(routed(f"call {number}", prompt_tokens=number))
    exact = sum(PRICES.cost("dear", prompt_tokens=n, completion_tokens=100) for n in range(100))
    assert tally.savings().baseline_cost == exact
    assert len(questions) < 10


def test_the_assumption_names_the_baseline_and_whose_prices():
    ledger = ledger_of(routed("a"))
    assert ledger.savings("dear").assumption == (
        "Compared with the same tokens on dear, at the prices of the service."
    )
    assert "the dearest of each call's candidates" in ledger.savings().assumption
    assert "genai-prices" in ledger.savings("gpt-4o", Prices.bundled()).assumption


def test_prices_are_the_argument_then_the_ledgers_then_the_bundled_ones():
    entry = routed("a")
    own = Prices.of([Model(id="gpt-4o", input_per_million=1, output_per_million=0)])
    assert ledger_of(entry).savings("gpt-4o", own).baseline_cost == Decimal("0.001")
    assert ledger_of(entry, prices=own).savings("gpt-4o").baseline_cost == Decimal("0.001")
    assert ledger_of(entry, prices=None).savings("gpt-4o").baseline_cost == Decimal("0.0035")


def test_a_view_has_savings_of_its_own():
    ledger = ledger_of(routed("a", tags={"user": "u1"}), routed("b"))
    assert ledger.where(tags={"user": "u1"}).savings("dear").calls == 1


@pytest.mark.parametrize(
    ("arguments", "name"), [((1,), "baseline"), (("",), "baseline"), ((None, {}), "prices")]
)
def test_an_argument_that_cannot_work_is_named(arguments, name):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        Ledger().savings(*arguments)


def test_they_are_plain_json_too():
    assert ledger_of(routed("a")).savings("dear").to_dict() == {
        "calls": 1,
        "actual": "0.001",
        "baseline_cost": "0.0130000",
        "saved": "0.0120000",
        "left_out": 0,
        "assumption": "Compared with the same tokens on dear, at the prices of the service.",
    }


def test_where_nothing_could_be_compared_a_report_says_unknown_and_not_zero():
    ledger = ledger_of(routed("a"), routed("b"))
    assert "Routing saved" in str(ledger.report(baseline="dear"))
    assert "What routing saved is unknown: 2 routed calls" in str(ledger.report(baseline="gpt-99"))
