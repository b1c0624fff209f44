"""A route report sums up decisions by weight, and says as plainly what it does not show."""

import json
import re
import sys
from dataclasses import replace
from decimal import Context, Decimal, Inexact, localcontext

import pytest

from lunar_core import (
    APIStatusError,
    AsyncLunar,
    BudgetExceededError,
    ConfigurationError,
    Entry,
    Ledger,
    Lunar,
    Prices,
)
from lunar_core.batch import RowError
from lunar_core.evaluate import RouteReport, read_prompts
from lunar_core.evaluate import page as pages
from lunar_core.wire.catalogue import Model

PROMPTS = [
    "Prove that there are infinitely many prime numbers.",
    "Write a haiku about rain.",
    "Is this contract binding under the statute?",
    "What is the capital of Australia?",
]
PRICES = Prices.of(
    [
        Model(id="gpt-4o", input_per_million=2.5, output_per_million=10),
        Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6),
    ]
)


@pytest.fixture(params=["documented", "observed"])
def sandbox(request, lunar_sandbox_factory):
    return lunar_sandbox_factory(dialect=request.param)


@pytest.fixture
def observed(lunar_sandbox_factory):
    return lunar_sandbox_factory(dialect="observed")


def client_of(sandbox):
    return AsyncLunar(sandbox.api_key, base_url=sandbox.url, max_retries=0)


def measure(sandbox, prompts=PROMPTS, **keywords):
    return RouteReport.measure(prompts, client=client_of(sandbox), **keywords)


def bodies(sandbox, path="/v1/router"):
    return [
        json.loads(request["body"]) for request in sandbox.requests() if request["path"] == path
    ]


# What is asked


def test_each_prompt_is_decided_at_each_weight_and_nothing_is_generated(sandbox):
    report = measure(sandbox, weights=[20, 0])
    requests = bodies(sandbox)
    assert len(requests) == 8
    assert {request["execute"] for request in requests} == {False}
    assert {request["cost_weight"] for request in requests} == {0, 20}
    assert sandbox.billed() == []
    assert [row.weight for row in report.weights] == [0, 20]
    assert all(sum(row.shares.values()) == pytest.approx(1) for row in report.weights)


def test_the_candidates_are_those_that_are_named(sandbox):
    report = measure(sandbox, models=["gpt-4o", "gpt-4o-mini"], weights=[0, 1000])
    assert {tuple(request["models"]) for request in bodies(sandbox)} == {("gpt-4o", "gpt-4o-mini")}
    assert report.weights[1].shares == {"gpt-4o-mini": 1.0}


async def test_it_runs_where_a_loop_runs_already(observed):
    report = measure(observed, weights=[0])
    awaited = await RouteReport.ameasure(PROMPTS, client=client_of(observed), weights=[0])
    assert report.weights == awaited.weights


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"weights": []}, "weights"),
        ({"weights": [-1]}, "weights"),
        ({"weights": [float("nan")]}, "weights"),
        ({"weights": [True]}, "weights"),
        ({"prompts": []}, "prompts"),
        ({"prompts": "Say hello"}, "prompts"),
        ({"prompts": ["hi", " "]}, "row 2: prompt"),
        ({"prompts": [{"prompt": "hi", "messages": []}]}, "row 1: prompt or messages"),
        ({"prompts": [3]}, "row 1"),
        ({"output_tokens": 0}, "output_tokens"),
        ({"within": 2}, "within"),
        ({"within": "0.1"}, "within"),
        ({"within": float("nan")}, "within"),
        ({"baseline": " "}, "baseline"),
        ({"baseline": None}, "baseline"),
        ({"models": ["gpt-4o"]}, "models"),
        ({"models": ["gpt-4o", ""]}, "models"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_sent(keywords, message, observed):
    with pytest.raises(ConfigurationError, match=message):
        measure(observed, **{"prompts": PROMPTS, **keywords})
    assert observed.requests() == []


def test_a_client_that_is_not_async_is_refused_before_anything_is_sent(observed):
    client = Lunar(observed.api_key, base_url=observed.url)
    with pytest.raises(ConfigurationError, match="client: expected an AsyncLunar, not a Lunar"):
        RouteReport.measure(PROMPTS, client=client)
    assert observed.requests() == []


def test_what_is_wrong_for_all_is_raised_after_one_request(sandbox):
    with pytest.raises(APIStatusError, match="nope"):
        measure(sandbox, models=["gpt-4o", "nope"])
    assert len(sandbox.requests()) == 1


class RefusesTheHaiku:
    """An observer that refuses one prompt at one weight."""

    def before(self, call):
        if "haiku" in str(call.params) and call.params["cost_weight"] == 20:
            raise BudgetExceededError("not that one")

    def after(self, outcome):
        pass


def test_a_prompt_that_fails_at_one_weight_is_left_out_at_all_and_counted(observed):
    client = AsyncLunar(observed.api_key, base_url=observed.url, observers=[RefusesTheHaiku()])
    report = RouteReport.measure(PROMPTS, client=client, weights=[0, 20])
    assert [row.prompts for row in report.weights] == [3, 3]
    assert report.failures == {"row 2": "BudgetExceededError: not that one"}
    assert "1 prompt that could not be decided" in str(report)


# What it says


def test_costs_are_those_of_the_prices_and_the_assumed_answers(observed):
    with localcontext(Context(prec=2, traps=[Inexact])):  # whatever the caller's context
        report = measure(
            observed,
            models=["gpt-4o", "gpt-4o-mini"],
            weights=[1000],
            prices=PRICES,
            output_tokens=100,
        )
    (row,) = report.weights
    read = sum(prompt.tokens for prompt in report.prompts)
    cost = (read * Decimal("0.15") + 4 * 100 * Decimal("0.6")) / 1_000_000 / 4 * 1000
    alone = (read * Decimal("2.5") + 4 * 100 * Decimal(10)) / 1_000_000 / 4 * 1000
    assert row.cost_per_1000 == cost
    assert report.baseline.cost_per_1000 == alone
    assert row.saved == pytest.approx(1 - float(cost / alone))


def test_without_prices_the_services_own_are_taken(observed, monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as if it were not installed
    report = measure(observed, models=["gpt-4o", "gpt-4o-mini"], weights=[0])
    assert report.unpriced == ()
    assert report.baseline.cost_per_1000 > 0


def test_scores_at_a_weight_of_cost_pass_for_no_errors(observed):
    free, weighted = (measure(observed, weights=weights) for weights in ([0], [0, 1000]))
    assert weighted.baseline == free.baseline
    assert weighted.unmeasured == free.unmeasured
    assert weighted.weights[0] == free.weights[0]


def test_a_price_that_is_unknown_is_never_0(observed):
    prices = Prices.of([Model(id="gpt-4o", input_per_million=2.5, output_per_million=10)])
    report = measure(observed, models=["gpt-4o", "gpt-4o-mini"], weights=[1000], prices=prices)
    (row,) = report.weights
    assert (row.cost_per_1000, row.saved, report.recommended) == (None, None, None)
    assert report.unpriced == ("gpt-4o-mini",)
    assert "A cost for gpt-4o-mini: no price is known, and unknown is not 0." in str(report)


def test_where_all_scores_are_told_it_counts_ties_and_what_the_mix_errs_at_random(observed):
    # By the sandbox's table: gpt-4o and gpt-4o-mini tie on small talk (0.12 each) and on haikus (0.10 each).
    report = measure(
        observed,
        ["Write a haiku.", "What is the capital of Peru?", "Prove it by a theorem of algebra."],
        models=["gpt-4o", "gpt-4o-mini"],
        weights=[0, 1e-6],
    )
    free, cheapest = report.weights
    assert (free.ties, cheapest.ties) == (2, 0)
    assert free.shares == {"gpt-4o": 1.0}
    assert report.baseline.expected_error == pytest.approx((0.10 + 0.12 + 0.16) / 3)
    assert cheapest.shares == pytest.approx({"gpt-4o-mini": 2 / 3, "gpt-4o": 1 / 3})
    assert cheapest.expected_error == pytest.approx((0.10 + 0.12 + 0.16) / 3)
    mini, large = (0.10 + 0.12 + 0.60) / 3, (0.10 + 0.12 + 0.16) / 3
    assert cheapest.shuffled_error == pytest.approx(2 / 3 * mini + 1 / 3 * large)


def test_where_they_are_not_it_says_what_cannot_be_told(lunar_sandbox_factory):
    report = measure(lunar_sandbox_factory(dialect="documented"))
    assert {row.ties for row in report.weights} == {None}
    assert {row.shuffled_error for row in report.weights} == {None}
    assert (report.baseline.expected_error, report.unmeasured.prompts) == (None, None)
    for words in ("ties: that takes the scores", "topics that nobody measured", "would err"):
        assert words in str(report)
    head = str(report).splitlines()[2]
    assert "expected error" in head
    assert "at random" not in head  # nothing is known of that column
    assert "ties" not in head


def test_the_cheapest_weight_within_a_stated_error_of_the_best_is_named(observed):
    keywords = {"models": ["gpt-4o", "gpt-4o-mini"], "weights": [0, 1e-6, 1000], "prices": PRICES}
    assert measure(observed, **keywords).recommended.weight == 1e-6
    assert measure(observed, **keywords, within=0.5).recommended.weight == 1000
    assert "within 0.5 of the best expected error: 1000" in str(
        measure(observed, **keywords, within=0.5)
    )


def test_the_text_ends_with_what_is_not_shown_and_few_prompts_are_called_few(observed):
    words = str(measure(observed))
    assert "What this does not show:\n- Whether the answers are good" in words
    assert "4 different prompts are few" in words
    assert re.search(r"^\*  gpt-4o +\d", words, re.MULTILINE)


def test_errors_of_0_ties_and_bills_are_told_where_there_are_some(observed):
    report = measure(observed, weights=[0])
    (row,) = report.weights
    none = replace(
        report,
        weights=(replace(row, ties=0),),
        unmeasured=replace(report.unmeasured, zeros=0),
        stated_cost=None,
    )
    some = replace(
        report,
        weights=(replace(row, ties=3),),
        unmeasured=replace(report.unmeasured, zeros=2),
        stated_cost=Decimal("0.5"),
    )
    for words in (
        "Certainty for 2 prompts with an expected error of 0",
        "A reason for 3 choices at weight 0",
        "Free decisions: the service stated 0.5 USD for them",
    ):
        assert words in str(some)
        assert words[:14] not in str(none)
    assert "the service stated no cost for them" in str(none)


def test_plain_json_holds_every_number_and_every_note(observed):
    report = measure(observed)
    plain = json.loads(json.dumps(report.to_dict()))
    assert [row["weight"] for row in plain["weights"]] == [0, 1e-6, 5, 20, 100]
    assert plain["baseline"]["cost_per_1000"] == format(report.baseline.cost_per_1000, "f")
    assert len(plain["notes"]) == str(report).count("\n- ")


def test_the_page_loads_nothing_and_escapes_what_others_wrote(observed):
    report = measure(observed, baseline="gpt-4o<b>")
    page = report.to_html()
    assert "<b>" not in page
    assert "<pre>the answer &lt;b&gt;</pre>" in pages.page(report, answers="the answer <b>")
    assert "gpt-4o&lt;b&gt;" in page
    assert not re.search(r"(src|href)=|@import|url\(|https?://", page)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in page


# Of a ledger


def test_a_ledger_of_routed_calls_is_reported_as_it_was_billed():
    ledger = Ledger()
    routing = {"selected_model": "gpt-4o-mini", "expected_error": 0.2, "cluster_id": 1}
    for number, cost in enumerate(("0.001", "0.003")):
        ledger.add(
            Entry(
                f"call_{number}",
                "gpt-4o-mini",
                routing=routing,
                cost_weight=5.0,
                cost=cost,
                prompt_tokens=1000,
                completion_tokens=100,
            )
        )
    ledger.add(Entry("call_named", "gpt-4o", cost="9"))
    for other in ({"status": "aborted"}, {"endpoint": "router.decide"}):
        ledger.add(Entry(str(other), "gpt-4o", routing=routing, cost="9", **other))
    report = RouteReport.from_ledger(ledger, prices=PRICES)
    (row,) = report.weights
    assert (row.weight, row.prompts, row.cost_per_1000) == (5.0, 2, Decimal(2))
    assert report.baseline.cost_per_1000 == Decimal("3.5")
    assert row.expected_error == pytest.approx(0.2)
    assert report.recommended is None
    assert "each weight here was given to other calls" in str(report)


def test_a_ledger_without_routed_answers_is_no_report():
    with pytest.raises(ConfigurationError, match="no routed answer"):
        RouteReport.from_ledger(Ledger())
    with pytest.raises(ConfigurationError, match="ledger: expected a Ledger, not a str"):
        RouteReport.from_ledger("costs.db")


# Prompts


def test_prompts_are_read_a_line_each_or_as_rows_with_further_fields(tmp_path):
    (tmp_path / "p.txt").write_text("\ufeffOne?\r\n\nTwo?\n", encoding="utf-8", newline="")
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.txt")] == ["One?", "Two?"]
    row = {"prompt": "Capital of France?", "answer": "Paris"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (prompt,) = read_prompts(tmp_path / "p.jsonl")
    assert (prompt.text, prompt.fields) == ("Capital of France?", {"answer": "Paris"})


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"prompt": ""}'])
def test_a_file_that_holds_no_prompts_is_refused(text, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RowError):
        read_prompts(path)
    with pytest.raises(RowError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")
