"""Query engines and chat engines over a local embedding."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.selectors import LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from llama_index_instrumentation import get_dispatcher

from llama_index_lunar import LunarCostHandler, lunar_cost, query_streams
from lunar_core import tags
from tests.faults_steps import completion, reply
from tests.llama_index.support import assert_booked, request_body
from tests.llama_index.test_tools import tool_call

FACTS = {
    "mars": "Mars has two small moons called Phobos and Deimos.",
    "venus": "Venus is covered by thick clouds of sulphuric acid.",
    "jupiter": "Jupiter shows a giant storm, its Great Spot, since centuries.",
}
ASKED = {
    "mars": "Which moons does Mars have?",
    "venus": "What are the clouds of Venus made of?",
    "jupiter": "Which storm does Jupiter show?",
}


@pytest.fixture
def index():
    documents = [Document(text=text, doc_id=name) for name, text in FACTS.items()]
    return VectorStoreIndex.from_documents(documents)


@pytest.fixture(params=["gpt-4o-mini", "router"])
def either_llm(request, llm_on, either_sandbox):
    """A named model and the routed one, in both dialects."""
    return llm_on(either_sandbox, model=request.param)


def sent(sandbox, number=-1):
    """The text of a request's messages."""
    body = request_body(sandbox.requests()[number])
    return "\n".join(message["content"] for message in body["messages"])


async def said(answer):
    """All of a streamed answer."""
    if hasattr(answer.response_gen, "__anext__"):
        return "".join([token async for token in answer.response_gen])
    return "".join(answer.response_gen)


async def query(engine, question, asynchronous):
    return await engine.aquery(question) if asynchronous else engine.query(question)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("planet", FACTS)
async def test_a_question_is_answered_from_the_text_it_is_about(
    planet, asynchronous, index, either_llm, either_sandbox
):
    engine = index.as_query_engine(llm=either_llm, similarity_top_k=1)
    with lunar_cost(tags={"query": planet}) as costs:
        answer = await query(engine, ASKED[planet], asynchronous)
    assert [node.node.ref_doc_id for node in answer.source_nodes] == [planet]
    assert FACTS[planet] in sent(either_sandbox)
    assert str(answer)
    assert costs.by_tag("query").keys() == {planet}
    assert_booked(costs, either_sandbox)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_streamed_answer_is_booked_where_the_query_was_made(
    asynchronous, index, either_llm, either_sandbox, dialect
):
    engine = index.as_query_engine(llm=either_llm, streaming=True, similarity_top_k=1)
    with lunar_cost(tags={"query": "moons"}) as costs:
        answer = await query(engine, ASKED["mars"], asynchronous)
    with lunar_cost(tags={"query": "another"}) as others:
        assert await said(answer)
    assert len(others.ledger) == 0
    assert costs.by_tag("query").keys() == {"moons"}
    assert_booked(costs, either_sandbox, silent=dialect == "observed")


def chunks(count, words=900):
    return [
        NodeWithScore(node=TextNode(text=" ".join(f"w{n}x{i}" for i in range(words))), score=1.0)
        for n in range(count)
    ]


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE])
def test_several_calls_of_one_query_are_added_up(mode, llm, lunar_sandbox):
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode)
    with lunar_cost() as costs:
        synthesizer.synthesize("What is it?", nodes=chunks(3, words=50))
    assert len(costs.ledger) == (1 if mode == ResponseMode.COMPACT else 3)
    assert costs.total_cost == lunar_sandbox.total_billed()


def test_a_right_context_window_spares_calls(llm, lunar_sandbox):
    """A window of 3,900 tokens would cut these chunks into four calls."""
    get_response_synthesizer(llm=llm).synthesize("What is it?", nodes=chunks(10))
    assert len(lunar_sandbox.requests()) == 1


async def test_a_tree_summary_asks_in_parallel(llm, lunar_sandbox):
    index = SummaryIndex.from_documents([Document(text=text) for text in FACTS.values()])
    engine = index.as_query_engine(llm=llm, response_mode="tree_summarize", use_async=True)
    with lunar_cost() as costs:
        assert str(await engine.aquery("Summarize"))
    assert costs.total_cost == lunar_sandbox.total_billed()


def test_structured_answers_of_a_query_engine(index, llm, lunar_sandbox):
    from pydantic import BaseModel

    class Moons(BaseModel):
        names: list[str]

    engine = index.as_query_engine(
        llm=llm.as_structured_llm(Moons), response_mode="compact", similarity_top_k=1
    )
    with lunar_cost() as costs:
        answer = engine.query('which moons: "Phobos", "Deimos"?')
    assert answer.response == Moons(names=["Phobos", "Deimos"])
    assert costs.total_cost == lunar_sandbox.total_billed()


def tools_of(index, llm):
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    return [
        QueryEngineTool.from_defaults(engine, name="planets", description="Facts on planets"),
        QueryEngineTool.from_defaults(engine, name="songs", description="Lyrics of songs"),
    ]


@pytest.mark.parametrize("selector", [LLMSingleSelector, PydanticSingleSelector])
def test_a_router_query_engine_selects_and_answers(selector, index, llm_on, faults):
    def answer(request):
        if "tools" in request.json:
            name = request.json["tools"][0]["function"]["name"]
            call = tool_call("c", name, '{"index": 1, "reason": "planets"}')
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            return reply(json=completion(choices=[{"index": 0, "message": message}]))
        if "choices" in str(request.json["messages"]):
            return reply(json=completion('[{"choice": 1, "reason": "planets"}]'))
        return reply(json=completion("Phobos and Deimos"))

    faults.decide(answer)
    llm = llm_on(faults)
    engine = RouterQueryEngine(
        selector=selector.from_defaults(llm=llm), query_engine_tools=tools_of(index, llm), llm=llm
    )
    with lunar_cost() as costs:
        assert str(engine.query(ASKED["mars"])) == "Phobos and Deimos"
    assert len(costs.ledger) == 2


def test_a_sub_question_query_engine_asks_each_part(index, llm_on, faults):
    question = '{"sub_question": "Which moons does Mars have?", "tool_name": "planets"}'

    def answer(request):
        if "tools" in request.json:
            name = request.json["tools"][0]["function"]["name"]
            call = tool_call("c", name, f'{{"items": [{question}]}}')
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            return reply(json=completion(choices=[{"index": 0, "message": message}]))
        if "sub_question" in str(request.json["messages"]):
            return reply(json=completion(f"```json\n[{question}]\n```"))
        return reply(json=completion("Phobos and Deimos"))

    faults.decide(answer)
    llm = Settings.llm = llm_on(faults)
    from llama_index.core.question_gen import LLMQuestionGenerator

    engine = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=tools_of(index, llm),
        question_gen=LLMQuestionGenerator.from_defaults(llm=llm),
        llm=llm,
        use_async=False,
        verbose=False,
    )
    with lunar_cost() as costs:
        assert str(engine.query("Tell me of moons")) == "Phobos and Deimos"
    assert len(costs.ledger) == 3


# Chat engines


def engines(index, llm):
    retriever = index.as_retriever(similarity_top_k=1)
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    return {
        "simple": SimpleChatEngine.from_defaults(llm=llm, memory=memory),
        "context": ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=memory),
        "condense": CondenseQuestionChatEngine.from_defaults(
            query_engine=index.as_query_engine(llm=llm, similarity_top_k=1, streaming=True),
            llm=llm,
            memory=memory,
        ),
        "condense plus context": CondensePlusContextChatEngine.from_defaults(
            retriever=retriever, llm=llm, memory=memory
        ),
    }


KINDS = ["simple", "context", "condense plus context"]


async def chat(engine, question, form):
    if form == "chat":
        return str(engine.chat(question))
    if form == "achat":
        return str(await engine.achat(question))
    if form == "stream_chat":
        return "".join(engine.stream_chat(question).response_gen)
    answer = await engine.astream_chat(question)
    return "".join([token async for token in answer.async_response_gen()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_a_chat_engine_remembers_the_conversation(
    kind, form, index, either_llm, either_sandbox, dialect
):
    engine = engines(index, either_llm)[kind]
    with lunar_cost() as costs:
        first = await chat(engine, "Say the moons of Mars", form)
        second = await chat(engine, "Say thanks", form)
    assert (first, second) == ("the moons of Mars", "thanks")
    history = request_body(either_sandbox.requests()[-1])["messages"]
    said = [m["content"] for m in history if m["role"] != "system"]
    assert said == ["Say the moons of Mars", "the moons of Mars", "Say thanks"]
    assert [m.content for m in engine.chat_history] == [*said, "thanks"]
    assert_booked(costs, either_sandbox, silent=dialect == "observed" and "stream" in form)


@pytest.mark.parametrize("kind", [*KINDS, "condense"])
@pytest.mark.parametrize("form", ["stream_chat", "astream_chat"])
async def test_a_chat_engines_stream_is_booked_where_it_was_asked_for(
    kind, form, index, llm_on, either_sandbox, dialect
):
    engine = engines(index, llm_on(either_sandbox))[kind]
    with lunar_cost() as costs:
        if form == "stream_chat":
            tokens = engine.stream_chat(ASKED["mars"]).response_gen
        else:
            tokens = (await engine.astream_chat(ASKED["mars"])).async_response_gen()
    with lunar_cost() as others:
        if form == "stream_chat":
            assert "".join(tokens)
        else:
            assert "".join([token async for token in tokens])
    assert len(others.ledger) == 0
    assert_booked(costs, either_sandbox, silent=dialect == "observed")


def test_a_condensed_question_is_streamed(index, llm, lunar_sandbox):
    engine = engines(index, llm)["condense"]
    assert "".join(engine.stream_chat("Which moons does Mars have?").response_gen)
    assert FACTS["mars"] in sent(lunar_sandbox)


def test_memory_is_as_large_as_the_model_allows(llm):
    # Three quarters of the window, as LlamaIndex reckons.
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 96_000


def test_settings_may_hold_the_llm(index, llm, lunar_sandbox):
    Settings.llm = llm
    assert str(index.as_query_engine().query(ASKED["mars"]))
    assert len(lunar_sandbox.requests()) == 1


def span_handlers():
    return [type(handler).__name__ for handler in get_dispatcher().span_handlers]


CONSTRUCT = """
import logging
from llama_index_instrumentation import get_dispatcher
logger = logging.getLogger("openinference.instrumentation.llama_index._handler")
def state():
    root = get_dispatcher()
    return list(root.span_handlers), list(root.event_handlers), list(logger.filters)
before = state()
import llama_index_lunar
[getattr(llama_index_lunar, name) for name in llama_index_lunar.__all__]
llama_index_lunar.LunarLLM("gpt-4o", api_key="pk_test")
print(state() == before)
"""


def test_importing_and_constructing_an_llm_installs_nothing():
    done = subprocess.run(
        [sys.executable, "-c", CONSTRUCT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "True\n"


def test_calling_an_llm_installs_nothing(llm):
    before = span_handlers()
    llm.complete("Say hi")
    assert span_handlers() == before


@pytest.fixture
def nobody_else(monkeypatch):
    """Handlers of other tests in this process may be open still: they count for themselves."""
    monkeypatch.setattr(query_streams, "IN_USE", query_streams.QueryStreamsInUse())


@pytest.mark.usefixtures("nobody_else")
def test_a_block_takes_away_what_it_installs_when_the_last_of_them_ends():
    before = span_handlers()
    with lunar_cost():
        with lunar_cost():
            assert span_handlers() == [*before, "QueryStreams"]
        assert span_handlers() == [*before, "QueryStreams"]
    assert span_handlers() == before


@pytest.mark.usefixtures("nobody_else")
def test_a_handler_that_is_closed_leaves_the_dispatcher_as_it_was(index, llm):
    spans, events = span_handlers(), list(get_dispatcher().event_handlers)
    costs = LunarCostHandler()
    get_dispatcher().add_event_handler(costs)
    assert span_handlers() == [*spans, "QueryStreams"]
    llm.complete("Say hi")
    costs.close()
    costs.close()
    assert span_handlers() == spans
    assert get_dispatcher().event_handlers == events
    llm.complete("Say hi")
    assert costs.ledger.total.calls == 1


def test_an_open_handler_books_late_streams_where_the_query_was_made(index, llm):
    costs = LunarCostHandler()
    get_dispatcher().add_event_handler(costs)
    try:
        with tags(tenant="acme"):
            answer = index.as_query_engine(llm=llm, streaming=True).query("Moons?")
        with tags(tenant="other"):
            assert "".join(answer.response_gen)
    finally:
        costs.close()
    assert costs.by_tag("tenant").keys() == {"acme"}
