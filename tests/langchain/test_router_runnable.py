"""LunarRouterChain as a Runnable: what callbacks hear of it, its batches and streams, its copies."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading
import weakref

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumpd, dumps, load
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, LunarRouterChain
from lunar_core import InternalServerError, RoutingDecision
from tests.langchain.router_inputs import EASY, HARD, PAIR

LONG = "Count to 20000"


# What callbacks hear


def test_callbacks_hear_of_the_settings_the_route_the_cost_and_the_message(chain, way, heard):
    answer = way.invoke(chain(models=PAIR), HARD, {"callbacks": [heard]})
    assert heard.events == ["chain_start", "model_start", "model_end", "lunar_routing", "chain_end"]
    assert heard.metadata == {"lunar_models": PAIR, "lunar_on_routing_error": "raise"}
    (decision,) = heard.custom
    assert decision == answer.response_metadata["routing"] == heard.results[0].llm_output["routing"]
    assert heard.results[0].llm_output["total_cost_usd"] > 0
    assert heard.outputs == [answer]


def test_of_a_stream_callbacks_hear_the_route_before_the_answer_is_over(chain, way, heard):
    chunks = way.stream(chain(models=PAIR, cost_weight=0.3), HARD, {"callbacks": [heard]})
    assert heard.events == ["chain_start", "model_start", "lunar_routing", "model_end", "chain_end"]
    assert heard.metadata["lunar_cost_weight"] == 0.3
    whole = chunks[0].__add__(chunks[1:])
    assert heard.custom == [whole.response_metadata["routing"]]
    (told,) = heard.outputs
    assert (told.content, told.response_metadata) == (whole.content, whole.response_metadata)


def test_of_candidates_callbacks_hear_before_one_is_asked(chain, way, chat, heard):
    candidates = {name: chat(name) for name in PAIR}
    way.invoke(chain(candidates=candidates), HARD, {"callbacks": [heard]})
    assert heard.events == ["chain_start", "lunar_routing", "model_start", "model_end", "chain_end"]
    assert heard.metadata["lunar_models"] == PAIR


def test_a_decision_is_a_run_of_its_own(chain, way, heard):
    decide = RunnableLambda(lambda q, config: chain().decide(q, config))
    decided = way.invoke(decide, HARD, {"callbacks": [heard]})
    assert heard.events == [*["chain_start"] * 2, "lunar_routing", *["chain_end"] * 2]
    assert heard.custom[0]["selected_model"] == decided.selected_model


def test_event_streams_carry_the_decision(chain):
    async def events():
        return [event async for event in chain().astream_events(HARD, version="v2")]

    custom = [e for e in asyncio.run(events()) if e["event"] == "on_custom_event"]
    assert [event["name"] for event in custom] == ["lunar_routing"]
    assert custom[0]["data"]["selected_model"]


def test_candidates_of_both_kinds_are_counted_each_by_what_is_known(chain, way, lunar_sandbox):
    cost = LunarCostCallbackHandler()
    candidates = {
        "gpt-4o": FakeListChatModel(responses=["hi"]),
        "gpt-4o-mini": chain(models=PAIR).router,
    }
    router = chain(candidates=candidates)
    way.invoke(router, HARD, {"callbacks": [cost]}, cost_weight=0.0)
    way.invoke(router, HARD, {"callbacks": [cost]}, cost_weight=80.0)
    assert (cost.total_cost, cost.unpriced) == (lunar_sandbox.total_billed(), 1)


# Batches


def test_batches_keep_their_order(chain, way):
    answers = way.batch(chain(), [f"Repeat: {n}" for n in range(8)])
    assert [answer.content.strip() for answer in answers] == [str(n) for n in range(8)]


def test_batches_decide_side_by_side(chain):
    """Each decision waits until all of them have begun."""
    together = threading.Barrier(3)

    class Meet:
        def before(self, call):
            together.wait(timeout=30)

        def after(self, outcome):
            pass

    decide = RunnableLambda(chain(models=PAIR, observers=[Meet()]).decide)
    decided = decide.batch([EASY, HARD, "Translate this"], {"max_concurrency": 3})
    assert all(isinstance(decision, RoutingDecision) for decision in decided)


def test_async_batches_decide_side_by_side(chain):
    class Count:
        open, most = 0, 0

        def before(self, call):
            self.open += 1
            self.most = max(self.most, self.open)

        def after(self, outcome):
            self.open -= 1

    count = Count()
    asyncio.run(chain(models=PAIR, observers=[count]).abatch([EASY] * 5))
    assert (count.most, count.open) == (5, 0)


# Streams, and the chain that it stands in


def test_a_stream_tells_its_route_and_its_cost_once(chain, way):
    chunks = way.stream(chain(), HARD)
    assert sum("routing" in chunk.response_metadata for chunk in chunks) == 1
    assert sum("total_cost_usd" in chunk.response_metadata for chunk in chunks) == 1
    assert len(chunks) > 2


def test_leaving_a_stream_ends_the_generation(chain, lunar_sandbox):
    cost = LunarCostCallbackHandler()
    with contextlib.closing(chain().stream(LONG, {"callbacks": [cost]})) as chunks:
        next(chunks)

    async def leave():
        async with contextlib.aclosing(chain().astream(LONG, {"callbacks": [cost]})) as chunks:
            await anext(chunks)

    asyncio.run(leave())
    assert [entry.status for entry in cost.ledger] == ["aborted"] * 2
    assert all("aborted" in bill["tags"] for bill in lunar_sandbox.billed(at_least=2))


def test_it_stands_in_a_chain(chain, lunar_sandbox):
    prompt = ChatPromptTemplate.from_template("Repeat: {text}")
    whole = prompt | chain() | StrOutputParser()
    cost = LunarCostCallbackHandler()
    assert "".join(whole.stream({"text": "a b c"}, {"callbacks": [cost]})) == "a b c"
    assert cost.total_cost == lunar_sandbox.total_billed() > 0


def test_it_transforms_what_a_chain_hands_on(chain, way):
    prompt = ChatPromptTemplate.from_template("Repeat: {text}")
    chunks = way.stream(prompt | chain() | StrOutputParser(), {"text": "a b c"})
    assert [chunk.strip() for chunk in chunks if chunk] == ["a", "b", "c"]


# Settings at run time, schemas, copies


def test_it_can_be_configured_at_run_time(chain, way):
    weighed = chain(models=PAIR).configurable_fields(cost_weight=ConfigurableField("weight"))
    chosen = [
        way.invoke(weighed, HARD, {"configurable": {"weight": weight}}).response_metadata[
            "model_name"
        ]
        for weight in (0.0, 80.0)
    ]
    assert chosen == PAIR


def test_it_is_described_as_a_chat_model_is(chain, chat):
    router = chain(name="route")
    assert router.get_input_jsonschema()["anyOf"] == chat().get_input_jsonschema()["anyOf"]
    assert [node.name for node in router.get_graph().nodes.values()] == [
        "route_input",
        "route",
        "route_output",
    ]


def test_it_travels_without_its_key_in_sight(chain, lunar_sandbox):
    router = chain(models=PAIR)
    router.invoke(EASY)
    assert lunar_sandbox.api_key not in repr(router) + dumps(router)
    copy = pickle.loads(pickle.dumps(router))
    assert copy.invoke(EASY).response_metadata["routing"]["selected_model"] in PAIR


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")  # it is what users have
@pytest.mark.parametrize("allowed", [[LunarRouterChain, ChatLunar], "all"], ids=["listed", "all"])
def test_it_can_be_dumped_and_loaded(chain, lunar_sandbox, allowed):
    candidates = {name: chain(models=PAIR).router for name in PAIR}
    for router in (chain(models=PAIR, cost_weight=0.3), chain(candidates=candidates)):
        again = load(
            dumpd(router),
            allowed_objects=allowed,
            valid_namespaces=["langchain_lunar"],
            secrets_map={"LUNAR_API_KEY": lunar_sandbox.api_key},
        )
        assert dumpd(again) == dumpd(router)
        assert again.invoke(EASY).response_metadata["routing"]


def test_a_copy_chooses_as_its_original_does(chain):
    router = chain(models=PAIR, cost_weight=80.0)
    router.invoke(EASY)
    for twin in (copy.copy(router), copy.deepcopy(router)):
        answer = twin.invoke(HARD)
        assert answer.response_metadata["model_name"] == "gpt-4o-mini"


def test_a_failed_call_leaves_nothing_for_the_collector(chain, no_collector):
    """A cycle would keep the connections, and what was asked, until some later collection."""

    def fail():
        failing = chain(models=["gpt-4o!503", "gpt-4o-mini!503"])
        with contextlib.suppress(InternalServerError):
            list(failing.stream(EASY))
        return weakref.ref(failing.llm.clients.sync)

    assert fail()() is None
