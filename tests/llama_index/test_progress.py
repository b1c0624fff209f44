"""`lunar_progress()`: an ingestion is counted by its calls, in both dialects."""

import contextvars
import io
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from llama_index.core.extractors import SummaryExtractor, TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode

from llama_index_lunar import lunar_progress

NODES = [TextNode(text=f"Moon {number} goes round Mars.") for number in range(3)]


def ingestion(llm):
    return IngestionPipeline(
        transformations=[SummaryExtractor(llm=llm, summaries=["self"], show_progress=False)],
        disable_cache=True,
    )


def run(pipeline):
    """In a thread of its own, which as a program's has no event loop yet: LlamaIndex makes one, and ends it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, lambda: pipeline.run(nodes=NODES)).result()


def bills(sandbox):
    return sum(Decimal(repr(bill["total_cost_usd"])) for bill in sandbox.billed())


def test_an_ingestion_is_counted_by_its_calls_and_costs_what_was_billed(llm_on, either_sandbox):
    file = io.StringIO()
    with lunar_progress(total=3, file=file) as progress:
        run(ingestion(llm_on(either_sandbox)))
    assert (progress.done, progress.failed) == (3, 0)
    assert progress.total_cost == bills(either_sandbox) > 0
    assert file.getvalue() == f"3 of 3 calls · ${progress.total_cost:f}\n"


async def test_so_is_one_in_async_code(llm_on, lunar_sandbox):
    pipeline = ingestion(llm_on(lunar_sandbox))
    with lunar_progress(total=3, file=io.StringIO()) as progress:
        await pipeline.arun(nodes=NODES)
    assert progress.done == 3
    assert progress.total_cost == bills(lunar_sandbox)


def test_several_extractors_make_several_calls_of_a_node(llm, lunar_sandbox):
    pipeline = ingestion(llm)
    pipeline.transformations.append(TitleExtractor(llm=llm, nodes=1, show_progress=False))
    with lunar_progress(file=io.StringIO()) as progress:
        run(pipeline)
    assert progress.done == len(lunar_sandbox.billed()) > 3


def test_calls_that_fail_are_counted_as_failed(llm_on, lunar_sandbox):
    with lunar_progress(total=2, file=io.StringIO()) as progress:
        llm_on(lunar_sandbox).complete("Say one")
        with pytest.raises(Exception, match="404"):
            llm_on(lunar_sandbox, model="nope").complete("Say two")
    assert (progress.done, progress.failed) == (2, 1)


def test_the_routers_decisions_are_no_calls_of_their_own(router):
    with lunar_progress(file=io.StringIO()) as progress:
        list(router.stream_complete("Say one"))
    assert progress.done == 1


def test_a_stream_whose_cost_nobody_states_makes_the_total_unknown(llm_on, lunar_sandbox_factory):
    llm = llm_on(lunar_sandbox_factory(dialect="observed"))
    with lunar_progress(total=2, file=io.StringIO()) as progress:
        list(llm.stream_complete("Say one"))
        assert "in all unknown" in str(progress)
    assert progress.projected_cost is None
