"""`lunar_progress()`: a batch is counted by its calls, as they end, in sync and async code."""

import io
from decimal import Decimal

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_lunar import get_lunar_cost, lunar_progress

INPUTS = [{"word": word} for word in ("one", "two", "three", "four")]


@pytest.fixture
def sequence(chat):
    return ChatPromptTemplate.from_template("Say {word}") | chat() | StrOutputParser()


def bills(sandbox):
    return sum(Decimal(repr(bill["total_cost_usd"])) for bill in sandbox.billed())


def test_a_batch_is_counted_by_its_calls_and_costs_what_was_billed(sequence, lunar_sandbox):
    file = io.StringIO()
    with lunar_progress(total=4, file=file) as progress:
        assert sequence.batch(INPUTS) == ["one", "two", "three", "four"]
    assert (progress.done, progress.failed) == (4, 0)
    assert progress.total_cost == bills(lunar_sandbox) > 0
    assert file.getvalue() == f"4 of 4 calls · ${progress.total_cost.normalize():f}\n"


def test_it_is_told_while_a_sequence_is_under_way(chat):
    """A sequence's batch ends the runs of its inputs all together, after the last of its steps."""
    seen = []

    def look(text):
        seen.append(progress.done)
        return text

    sequence = RunnableLambda(look) | chat() | StrOutputParser() | RunnableLambda(look) | chat()
    with lunar_progress(total=8, file=io.StringIO()) as progress:
        sequence.batch(["Say one", "Say two", "Say three", "Say four"])
    assert seen == [0] * 4 + [4] * 4
    assert progress.done == 8


async def test_so_is_one_in_async_code(sequence, lunar_sandbox):
    with lunar_progress(total=4, file=io.StringIO()) as progress:
        await sequence.abatch(INPUTS)
    assert progress.done == 4
    assert progress.total_cost == bills(lunar_sandbox)


def test_a_models_own_batch_is_counted_too_and_a_stream_is_one_call(chat):
    with lunar_progress(file=io.StringIO()) as progress:
        chat().batch(["Say one", "Say two"])
        list(chat().stream("Say three"))
    assert progress.done == 3


def test_what_fails_is_counted_as_failed(sequence, chat):
    broken = ChatPromptTemplate.from_template("Say {word}") | chat("nope")
    with lunar_progress(total=8, file=io.StringIO()) as progress:
        sequence.batch(INPUTS)
        broken.batch(INPUTS, return_exceptions=True)
    assert (progress.done, progress.failed) == (8, 4)


def test_a_batch_that_goes_on_as_it_completes_can_be_watched(sequence):
    with lunar_progress(total=4, file=io.StringIO()) as progress:
        seen = [progress.done for _ in sequence.batch_as_completed(INPUTS, {"max_concurrency": 1})]
    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_it_counts_in_a_block_of_costs_around_it_and_ends_with_its_own(sequence):
    with get_lunar_cost() as cost:
        with lunar_progress(file=io.StringIO()) as progress:
            sequence.invoke(INPUTS[0])
        sequence.invoke(INPUTS[1])
    assert progress.done == len(progress.ledger) == 1
    assert len(cost.ledger) == 2
