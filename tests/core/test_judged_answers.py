"""Answers that are paid for: within a budget, in pairs, beside a shuffled control; no more is said than was shown."""

import json
from decimal import Decimal

import pytest

from lunar_core import AsyncLunar, Budget, ConfigurationError, Lunar, Model, Prices
from lunar_core.cost.report.words import usd
from lunar_core.evaluate import (
    AnswerPlan,
    Comparison,
    Pair,
    PairedAnswer,
    Record,
    RouteReport,
    ScoreJudge,
    compare_answers,
    find_judge,
)
from lunar_core.evaluate.prompts import Prompt

TOPICS = ("Prove theorem %d of algebra.", "Write haiku %d.", "What is the capital of country %d?")
ROWS = [{"prompt": TOPICS[n % 3] % n, "answer": f"answer {n}"} for n in range(30)]


@pytest.fixture
def sandbox(lunar_sandbox_factory):
    return lunar_sandbox_factory(dialect="observed")


@pytest.fixture
def client(sandbox):
    return AsyncLunar(sandbox.api_key, base_url=sandbox.url, max_retries=0)


@pytest.fixture
def report(client):
    return RouteReport.measure(
        ROWS, client=client, models=["gpt-4o", "gpt-4o-mini"], weights=[1e-6]
    )


def budget_of(report, usd="1"):
    return Budget(usd=usd, reserve="worst", prices=report.prices, warn_at=None)


def answer_by(sandbox, answer):
    """Let ``answer(model, prompt)`` say what each model says."""
    sandbox.answer(lambda request: answer(request["model"], request["messages"][-1]["content"]))


def number_in(prompt):
    return "".join(sign for sign in prompt if sign.isdigit())


def test_choice_control_and_baseline_answer_the_same_prompts_and_the_bill_is_theirs(
    report, client, sandbox
):
    sandbox.reset()
    plan = AnswerPlan.draw(report, 12, judge="exact:answer")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert len(comparison.pairs) == comparison.planned == 12
    assert comparison.spent == sandbox.total_billed() <= plan.at_most
    assert {pair.baseline.model for pair in comparison.pairs} == {"gpt-4o"}
    choices = sorted(pair.choice.model for pair in comparison.pairs)
    assert sorted(pair.control.model for pair in comparison.pairs) == choices
    assert len(set(choices)) == 2
    # Where choice, control or baseline are the same model, one answer serves them all.
    distinct = sum(
        len({pair.baseline.model, pair.choice.model, pair.control.model})
        for pair in comparison.pairs
    )
    assert len(sandbox.billed()) == distinct


def test_the_exact_judge_wins_for_who_is_right(report, client, sandbox):
    # The small model is right on everything but algebra, the large one on nothing but algebra.
    def answer(model, prompt):
        is_right = (model == "gpt-4o") == ("algebra" in prompt)
        return f"Answer {number_in(prompt)}." if is_right else "no idea"

    answer_by(sandbox, answer)
    plan = AnswerPlan.draw(report, 30, judge="exact:answer")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert comparison.record == Record(wins=20, ties=10, losses=0)
    assert comparison.control_record.losses > 0
    assert comparison.advantage_interval[0] > 0
    assert "adds something" in comparison.verdict


def test_where_the_small_model_is_better_everywhere_the_control_does_as_well_and_it_says_so(
    report, client, sandbox
):
    answer_by(
        sandbox,
        lambda model, prompt: f"answer {number_in(prompt)}" if "mini" in model else "no idea",
    )
    plan = AnswerPlan.draw(report, 30, judge="exact:answer")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert comparison.record.wins == comparison.control_record.wins == 20
    assert "The control did as well: routing adds nothing here" in str(comparison)


def test_a_model_that_judges_is_asked_in_both_orders_and_must_agree_with_itself(
    report, client, sandbox
):
    def answer(model, prompt):
        if not prompt.startswith("[Question]"):
            return f"by {model}"
        first = prompt.partition("[Answer 1]\n")[2].startswith("by gpt-4o-mini")
        # On haikus it likes the small model, on all else whichever stands first.
        return ("1" if first else "2") if "haiku" in prompt else "1"

    answer_by(sandbox, answer)
    plan = AnswerPlan.draw(report, 30, judge="model:gpt-4o")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert comparison.record == Record(wins=10, ties=20, losses=0)
    assert comparison.spent == sandbox.total_billed() <= plan.at_most
    assert comparison.unreadable == 0


def test_judgments_that_say_nothing_are_ties_that_are_counted(report, client, sandbox):
    answer_by(sandbox, lambda model, prompt: "Hm.")
    plan = AnswerPlan.draw(report, 6, judge="model:gpt-4o")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert comparison.unreadable > 0
    assert comparison.record.ties == 6
    assert comparison.verdict.startswith("The judge saw no difference between any answer")


def test_a_budget_ends_it_with_whole_pairs_and_says_so(report, client, sandbox):
    plan = AnswerPlan.draw(report, 30, judge="exact:answer", max_tokens=64)
    budget = budget_of(report, "0.003")
    comparison = compare_answers(plan, budget, client=client)
    assert 0 < len(comparison.pairs) < 30
    assert sandbox.total_billed() <= Decimal("0.003")
    assert comparison.refusal is not None
    assert f"ended early, {len(comparison.pairs)} of 30" in str(comparison)


def test_a_model_whose_price_nobody_knows_ends_it_by_name(report, client, sandbox):
    plan = AnswerPlan.draw(report, 30, judge="exact:answer")
    prices = Prices.of([Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6)])
    budget = Budget(usd="1", reserve="worst", prices=prices)
    sandbox.reset()
    comparison = compare_answers(plan, budget, client=client)
    assert (comparison.pairs, comparison.failed) == ((), 0)
    assert "no price is known of gpt-4o" in comparison.refusal
    assert len(sandbox.billed()) <= 8  # the calls at once, and no more


def test_what_fails_is_left_out_and_counted(report, client, sandbox):
    answer_by(sandbox, lambda model, prompt: {"fail": "400"} if "haiku" in prompt else "fine")
    plan = AnswerPlan.draw(report, 30, judge="exact:answer")
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert (len(comparison.pairs), comparison.failed) == (20, 10)
    assert comparison.first_failure.startswith("BadRequestError: ")


def test_a_judge_that_fails_loses_its_prompt_and_no_answer_that_was_paid_for(report, client):
    def mark(fields, answer):
        if "haiku" in fields["prompt"]:
            raise LookupError("no rhyme")
        return len(answer)

    plan = AnswerPlan.draw(report, 30, judge=ScoreJudge("length", mark))
    comparison = compare_answers(plan, budget_of(report), client=client)
    failed = 30 - len(comparison.pairs)
    assert 0 < failed == comparison.failed <= 10
    assert comparison.first_failure == "LookupError: no rhyme"


def test_a_plan_says_what_it_costs_at_most_before_anything_is_sent(report, sandbox):
    sandbox.reset()
    plan = AnswerPlan.draw(report, 10, judge="model:gpt-4o", max_tokens=100)
    words = plan.describe(Decimal("0.5"))
    assert f"by list prices {usd(plan.at_most)} at most" in words
    assert "budget of 0.5 USD" in words
    assert sandbox.requests() == []


def test_answers_and_judgments_of_full_length_cost_no_more_than_was_said(report, client, sandbox):
    plan = AnswerPlan.draw(report, 12, judge="model:gpt-4o", max_tokens=100)
    answer_by(sandbox, lambda model, prompt: "1" if "[Answer 2]" in prompt else "word " * 80)
    comparison = compare_answers(plan, budget_of(report), client=client)
    assert comparison.refusal is None
    assert plan.at_most * Decimal("0.7") < comparison.spent <= plan.at_most
    bodies = [request["body"] for request in sandbox.requests()]
    judgments = sum("[Answer 2]" in body for body in bodies)
    assert f" and {judgments} judgments: " in plan.describe(Decimal(1))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"count": 0}, "answers"),
        ({"judge": "best"}, "judge"),
        ({"judge": "exact:reference"}, "has no field 'reference'"),
        ({"judge": "python:no_such_module:f"}, "cannot be loaded"),
        ({"judge": "python:json:__doc__"}, "is no function"),
        ({"weight": 3.0}, "none of the report's weights"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_a_plan_that_cannot_work_is_named(keywords, message, report):
    with pytest.raises(ConfigurationError, match=message):
        AnswerPlan.draw(report, **{"count": 3, "judge": "exact:answer", **keywords})


def test_nothing_is_paid_for_without_a_budget(report, client):
    plan = AnswerPlan.draw(report, 3, judge="exact:answer")
    with pytest.raises(ConfigurationError, match="budget"):
        compare_answers(plan, None, client=client)


def test_nor_by_a_client_that_is_not_async(report, sandbox):
    plan = AnswerPlan.draw(report, 2, judge="exact:answer")
    client = Lunar(sandbox.api_key, base_url=sandbox.url)
    with pytest.raises(ConfigurationError, match="client: expected an AsyncLunar, not a Lunar"):
        compare_answers(plan, budget_of(report), client=client)


def test_a_function_marks_each_answer_with_the_prompts_fields():
    judge = find_judge("python:operator:contains")
    assert judge.compare(Prompt("1", [{"role": "user", "content": "q"}], {"a": 1}), "a", "b") == 1


@pytest.mark.parametrize("mark", ["good", None, float("nan")])
def test_a_mark_that_is_no_number_is_named(mark):
    judge = ScoreJudge("words", lambda fields, answer: mark)
    with pytest.raises(ConfigurationError, match=f"returned {mark!r}: expected a number"):
        judge.compare(Prompt("1", [{"role": "user", "content": "q"}]), "a", "b")


# What is said of them


def pairs_of(*results):
    return tuple(
        Pair(
            str(number),
            "q",
            PairedAnswer("base", "x"),
            PairedAnswer("choice", "y"),
            result,
            None if control is None else PairedAnswer("control", "z"),
            control,
        )
        for number, (result, control) in enumerate(results)
    )


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ((), "Nothing was judged"),
        (((1, None),), "There was no control"),
        (((0, 0),) * 9, "saw no difference between any answer"),
        (((1, -1),) * 9, "adds something"),
        (((1, -1),) * 3, "no more than chance explains"),
        (((1, 1),) * 9, "The control did as well"),
        (((-1, 0),) * 9, "The control did as well"),
        (((1, 0), (0, 1), (1, 0), (0, 0)), "was not shown"),
    ],
)
def test_a_verdict_claims_what_was_shown_and_no_more(results, words):
    assert words in Comparison(pairs_of(*results), "judge", "base").verdict


def test_what_fell_short_is_told():
    words = str(
        Comparison(
            pairs_of((1, 0)),
            "judge",
            "base",
            planned=5,
            failed=2,
            first_failure="TimeoutError: late",
            unreadable=3,
            spent=Decimal("0.5"),
            unpriced=4,
            refusal="no more",
        )
    )
    assert "spent: 0.5 USD, a lower bound: 4 calls stated no cost" in words
    assert "left out: 2 prompts whose answer or judgment failed; the first: TimeoutError" in words
    assert "unreadable judgments, counted as ties: 3" in words
    assert "ended early, 1 of 5: no more" in words


def test_pairs_are_exported_as_json_lines(tmp_path):
    path = tmp_path / "pairs.jsonl"
    Comparison(pairs_of((1, 0), (0, -1)), "judge", "base").write_jsonl(path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["result"], line["control_result"]) for line in lines] == [(1, 0), (0, -1)]
    assert lines[0]["choice"] == {"model": "choice", "text": "y", "cost_usd": None}


def test_any_text_is_one_line_of_an_export(tmp_path):
    path, odd = tmp_path / "pairs.jsonl", "\ud83d\u2028"
    pair = Pair("1", odd, PairedAnswer("base", "x"), PairedAnswer("choice", "y"), 1)
    Comparison((pair,), "judge", "base").write_jsonl(path)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["prompt"] == odd
