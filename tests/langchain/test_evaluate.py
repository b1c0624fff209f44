"""Whether routing helps a chain: the router's choice, the baseline and a shuffled control, run and judged in pairs."""

import asyncio
import json
from decimal import Decimal

import pytest
from langsmith.schemas import ExampleCreate

from langchain_lunar import LunarCostCallbackHandler, LunarRouterChain
from langchain_lunar.evaluate import langsmith_examples, report_runs
from lunar_core import BREAK_TIES, ConfigurationError
from lunar_core.evaluate import Record
from tests.compared_chains import MODELS, answer_row, compare_chains, make_rows

ROWS = make_rows(24)


@pytest.fixture(params=["sync", "async"])
def compare(request, lunar_sandbox):
    """Compare a chain on the sandbox; small models are right on all but algebra, large ones on algebra alone."""
    settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
    lunar_sandbox.answer(answer_row)

    def run(evaluator, rows=ROWS, **keywords):
        is_async = request.param == "async"
        return compare_chains(rows, evaluator, is_async=is_async, settings=settings, **keywords)

    return run


def is_right(fields, answer):
    return answer == fields["reference"]


def test_a_function_marks_the_answers_and_the_bill_is_all_that_was_run(compare, lunar_sandbox):
    comparison = compare(is_right)
    assert comparison.record == Record(wins=16, ties=8, losses=0)
    assert comparison.spent == lunar_sandbox.total_billed() > 0
    choices = sorted(pair.choice.model for pair in comparison.pairs)
    assert sorted(pair.control.model for pair in comparison.pairs) == choices
    assert {pair.baseline.model for pair in comparison.pairs} == {"gpt-4o"}
    assert comparison.advantage_interval[0] > 0
    distinct = sum(
        1 + len({"gpt-4o", pair.choice.model, pair.control.model} - {pair.choice.model})
        for pair in comparison.pairs
    )
    # The baseline is asked for every row, also where the router chose its model.
    same = sum(pair.choice.model == "gpt-4o" for pair in comparison.pairs)
    assert len(lunar_sandbox.billed()) == distinct + same


def test_an_evaluator_of_openevals_is_called_by_its_keywords(compare):
    seen = []

    def judge(*, inputs, outputs, reference_outputs, **_):
        seen.append((inputs, reference_outputs))
        return {"key": "right", "score": outputs == reference_outputs, "comment": None}

    assert compare(judge).record == Record(wins=16, ties=8, losses=0)
    assert ({"question": "Write haiku 1."}, "answer 1") in seen


class StringEvaluator:
    """In the form of `langchain_classic.evaluation.StringEvaluator`."""

    requires_input = False
    requires_reference = True

    def evaluate_strings(self, *, prediction, reference):
        return {"score": int(prediction == reference)}

    async def aevaluate_strings(self, **keywords):
        return self.evaluate_strings(**keywords)


class PairwiseEvaluator:
    """In the form of `langchain_classic.evaluation.PairwiseStringEvaluator`. It likes what stands first."""

    requires_reference = False

    def evaluate_string_pairs(self, *, prediction, prediction_b, input):
        if "haiku" in input:
            return {"value": "A" if prediction.startswith("answer") else "B"}
        return {"value": "A", "score": 1}

    async def aevaluate_string_pairs(self, **keywords):
        return self.evaluate_string_pairs(**keywords)


async def is_right_after_a_while(fields, answer):
    await asyncio.sleep(0)
    return is_right(fields, answer)


def test_an_async_evaluator_is_awaited_and_in_sync_code_refused_before_anything_is_paid_for(
    compare, lunar_sandbox, request
):
    if "async" in request.node.callspec.id:
        assert compare(is_right_after_a_while).record == Record(wins=16, ties=8, losses=0)
    else:
        with pytest.raises(ConfigurationError, match=r"^evaluator: is async: .*acompare_runs"):
            compare(is_right_after_a_while)
        assert lunar_sandbox.requests() == []


def test_a_string_evaluator_of_langchain_marks_with_the_reference(compare):
    assert compare(StringEvaluator()).record == Record(wins=16, ties=8, losses=0)


def test_a_pairwise_evaluator_of_langchain_is_asked_in_both_orders(compare):
    assert compare(PairwiseEvaluator()).record == Record(wins=8, ties=16, losses=0)


def test_an_evaluator_that_fails_loses_its_row_and_no_answer_that_was_paid_for(compare):
    def fails_on_haikus(fields, answer):
        if "haiku" in fields["prompt"]:
            raise LookupError("no rhyme")
        return is_right(fields, answer)

    comparison = compare(fails_on_haikus)
    assert (len(comparison.pairs), comparison.failed) == (16, 8)
    assert "8 prompts whose answer or judgment failed; the first: LookupError: no rhyme" in str(
        comparison
    )


def test_a_budget_ends_it_and_whole_pairs_are_left(compare, lunar_sandbox):
    comparison = compare(is_right, usd="0.003")
    assert 0 < len(comparison.pairs) < 24
    assert comparison.refusal is not None
    assert lunar_sandbox.total_billed() <= Decimal("0.003")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"rows": []}, "rows: there are none"),
        ({"rows": [{"question": "hi"}]}, "rows: row 1"),
        ({"budget": None}, "budget"),
        ({"evaluator": "exact"}, "evaluator"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_sent(
    keywords, message, compare, lunar_sandbox
):
    with pytest.raises(ConfigurationError, match=message):
        compare(**{"evaluator": is_right, **keywords})
    assert lunar_sandbox.requests() == []


def test_pairs_are_exported_for_langsmith_and_as_json_lines(compare, tmp_path):
    comparison = compare(is_right, rows=ROWS[:3])
    examples = [ExampleCreate(**example) for example in langsmith_examples(comparison)]
    assert [example.inputs for example in examples] == [row["inputs"] for row in ROWS[:3]]
    # LangSmith has renamed the field.
    renamed = "reference_outputs" in ExampleCreate.model_fields
    reference = getattr(examples[0], "reference_outputs" if renamed else "outputs")
    assert reference == {"reference": "answer 0"}
    assert examples[1].metadata["result"] == 1
    assert json.loads(examples[1].model_dump_json())
    comparison.write_jsonl(tmp_path / "pairs.jsonl")
    assert len((tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_what_a_handler_saw_is_reported(lunar_sandbox):
    chain = LunarRouterChain(
        models=MODELS,
        cost_weight=BREAK_TIES,
        api_key=lunar_sandbox.api_key,
        base_url=lunar_sandbox.url,
    )
    handler = LunarCostCallbackHandler()
    chain.batch(["Write a haiku.", "Prove theorem 2 of algebra."], {"callbacks": [handler]})
    report = report_runs(handler)
    assert (report.source, report.prompt_count) == ("ledger", 2)
    assert {row.weight for row in report.weights} == {None}
    assert report.weights[0].cost_per_1000 == handler.total_cost * 1000 / 2
