"""`langchain_lunar.evaluate` with the evaluators themselves, of openevals and `langchain_classic`, sync and async."""

import json

import pytest
from langchain_classic.evaluation import load_evaluator
from openevals.exact import exact_match, exact_match_async
from openevals.llm import create_async_llm_as_judge, create_llm_as_judge

from langchain_lunar import ChatLunar
from lunar_core.evaluate import Record
from tests.compared_chains import TOPICS, answer_row, compare_chains, make_rows

ROWS = make_rows(8, topics=TOPICS[:2])
RIGHT_ALWAYS = Record(wins=4, ties=4, losses=0)
"""The router's choice is right on haikus, where the baseline is not; on algebra it chooses the baseline's model."""


@pytest.fixture
def settings(lunar_sandbox):
    """The sandbox's; its models answer, and judge where a judge's prompt shows them answers."""

    def answer(request):
        prompt = json.dumps(request["messages"], ensure_ascii=False)
        if "Assistant A's Answer" in prompt:
            first = prompt.index("answer ")
            return "[[A]]" if first < prompt.index("no idea") else "[[B]]"
        if "Is it right?" in prompt:
            verdict = {"reasoning": "It is what it is.", "score": "no idea" not in prompt}
            return {"call_tools": [{"name": "score", "arguments": verdict}]}
        return answer_row(request)

    lunar_sandbox.answer(answer)
    return {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}


@pytest.fixture
def compare(settings):
    """`(evaluator, is_async)` to the Comparison."""

    def run(evaluator, *, is_async):
        return compare_chains(ROWS, evaluator, is_async=is_async, settings=settings)

    return run


@pytest.mark.parametrize(
    ("evaluator", "is_async"), [(exact_match, False), (exact_match_async, True)]
)
def test_an_evaluator_of_openevals_marks_the_answers(compare, evaluator, is_async):
    comparison = compare(evaluator, is_async=is_async)
    assert (comparison.failed, comparison.record) == (0, RIGHT_ALWAYS)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_model_that_judges_for_openevals_may_be_ours(compare, settings, is_async):
    make = create_async_llm_as_judge if is_async else create_llm_as_judge
    judge = make(
        prompt="{inputs}\nIs it right? {outputs}",
        judge=ChatLunar(model="gpt-4o", max_tokens=99, **settings),
    )
    comparison = compare(judge, is_async=is_async)
    assert (comparison.failed, comparison.record) == (0, RIGHT_ALWAYS)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_string_evaluator_of_langchain_marks_with_the_reference(compare, is_async):
    comparison = compare(load_evaluator("exact_match"), is_async=is_async)
    assert (comparison.failed, comparison.record) == (0, RIGHT_ALWAYS)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_pairwise_evaluator_of_langchain_is_asked_in_both_orders(
    compare, settings, is_async, lunar_sandbox
):
    llm = ChatLunar(model="gpt-4o", max_tokens=99, **settings)
    comparison = compare(load_evaluator("pairwise_string", llm=llm), is_async=is_async)
    assert (comparison.failed, comparison.record) == (0, RIGHT_ALWAYS)
    asked = [request["body"] for request in lunar_sandbox.requests()]
    judgments = [body for body in asked if "Assistant A" in body]
    contests = [
        {pair.choice.model, pair.control.model} - {pair.baseline.model} for pair in comparison.pairs
    ]
    assert len(judgments) == 2 * sum(map(len, contests)) > 0
