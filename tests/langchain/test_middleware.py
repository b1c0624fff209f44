"""Agents: Lunar chooses the model of each call, or of each run; tools and structured output stay."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_lunar import LunarCostCallbackHandler, LunarRouterChain
from langchain_lunar.middleware import LunarRoutingMiddleware
from lunar_core import ConfigurationError, InternalServerError
from tests.faults_steps import reply
from tests.langchain.router_inputs import PAIR

PARIS = "What is the weather in Paris?"


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


@pytest.fixture
def connection(lunar_sandbox):
    return {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}


@pytest.fixture
def agent(chat, connection):
    """Make an agent with one tool, routed by the middleware."""

    def make(model="router", per="call", **settings):
        routing = LunarRoutingMiddleware(per=per, models=PAIR, **connection)
        return create_agent(chat(model), tools=[get_weather], middleware=[routing], **settings)

    return make


def ask(agent, question, config=None, *, in_async=False):
    given = {"messages": [{"role": "user", "content": question}]}
    return asyncio.run(agent.ainvoke(given, config)) if in_async else agent.invoke(given, config)


def decisions(sandbox):
    routed = [r for r in sandbox.requests() if r["path"] == "/v1/router"]
    return [json.loads(request["body"]) for request in routed]


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("per", "asked"), [("call", 2), ("run", 1)])
def test_the_router_is_asked_for_each_call_or_once(agent, per, asked, in_async, lunar_sandbox):
    state = ask(agent(per=per), PARIS, in_async=in_async)
    _human, call, result, answer = state["messages"]
    assert (call.tool_calls[0]["name"], result.content) == ("get_weather", "It is sunny in Paris.")
    for message in (call, answer):
        route = message.response_metadata["routing"]
        assert message.response_metadata["model_name"] == route["selected_model"]
        assert route["selected_model"] in PAIR
    assert len(decisions(lunar_sandbox)) == asked
    assert all(body["execute"] is False for body in decisions(lunar_sandbox))
    assert ("lunar_routing" in state) == (per == "run")


def test_costs_are_told_by_node_and_equal_the_bill(agent, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    ask(agent(), PARIS, {"callbacks": [handler]})
    assert handler.total_cost == lunar_sandbox.total_billed() > 0
    assert handler.by_node["model"].calls == 2


def test_structured_output_stays(agent):
    class Weather(BaseModel):
        """The weather."""

        city: str

    routed = agent(response_format=ToolStrategy(Weather))
    state = ask(routed, "Give me the Weather: the city is Paris")
    assert isinstance(state["structured_response"], Weather)


def test_settings_that_cannot_work_are_refused(connection):
    with pytest.raises(ConfigurationError, match="per"):
        LunarRoutingMiddleware(per="day", **connection)
    with pytest.raises(ConfigurationError, match="models"):
        LunarRoutingMiddleware(LunarRouterChain(**connection), models=PAIR)


def test_candidates_of_other_vendors_may_answer(connection):
    candidates = {name: FakeListChatModel(responses=[f"I am {name}"]) for name in PAIR}
    routing = LunarRoutingMiddleware(candidates=candidates, **connection)
    state = ask(create_agent(candidates["gpt-4o"], tools=[], middleware=[routing]), "Say hi")
    answer = state["messages"][-1]
    assert answer.content == f"I am {answer.response_metadata['routing']['selected_model']}"


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("per", ["call", "run"])
def test_a_router_that_fails_is_told_or_replaced(chat, connection, per, in_async, fault_server):
    fault_server.decide(lambda request: reply(503, b'{"detail": "router down"}'))
    settings = {**connection, "base_url": fault_server.origin, "models": PAIR, "per": per}

    def answers(**more):
        routing = LunarRoutingMiddleware(**settings, **more)
        agent = create_agent(chat("router"), tools=[get_weather], middleware=[routing])
        return ask(agent, PARIS, in_async=in_async)["messages"][1::2]

    with pytest.raises(InternalServerError, match="router down"):
        answers()
    for message in answers(on_routing_error="fallback", default_model="gpt-4o-mini"):
        assert message.response_metadata["model_name"] == "gpt-4o-mini"
        assert message.response_metadata["routing_error"].startswith("InternalServerError")


def test_an_agent_of_another_vendors_model_is_asked_through_lunar(connection, lunar_sandbox):
    theirs = FakeListChatModel(responses=["I am not asked"])
    routing = LunarRoutingMiddleware(models=PAIR, **connection)
    answer = ask(create_agent(theirs, tools=[get_weather], middleware=[routing]), PARIS)
    assert answer["messages"][-1].response_metadata["requested_model"] in PAIR


def test_the_system_prompt_is_part_of_what_is_decided_by(agent, lunar_sandbox):
    ask(agent(system_prompt="Be brief."), PARIS)
    first, second = decisions(lunar_sandbox)
    assert [turn["role"] for turn in first["messages"]] == ["system", "user"]
    assert first["messages"][0]["content"] == "Be brief."
    assert {turn["role"] for turn in second["messages"]} <= {"system", "user", "assistant"}


def test_each_run_of_a_conversation_is_decided_anew(agent, lunar_sandbox):
    routed = agent(per="run", checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    first = ask(routed, "Say hi", thread)["lunar_routing"]
    second = ask(routed, "Prove that there are infinitely many primes", thread)["lunar_routing"]
    assert len(decisions(lunar_sandbox)) == 2
    assert json.loads(json.dumps(first)) == first
    assert first["cluster_id"] != second["cluster_id"]


def test_streams_stay_streams(agent):
    given = {"messages": [{"role": "user", "content": "Repeat: a b c"}]}
    streamed = list(agent().stream(given, stream_mode="messages"))
    assert [chunk.text.strip() for chunk, _ in streamed if chunk.text] == ["a", "b", "c"]
    assert {metadata["langgraph_node"] for _, metadata in streamed} == {"model"}
    assert sum("total_cost_usd" in chunk.response_metadata for chunk, _ in streamed) == 1
    assert sum("routing" in chunk.response_metadata for chunk, _ in streamed) == 1


def test_a_graph_streams_the_route_of_a_chain_within_it(connection):
    chain = LunarRouterChain(models=PAIR, **connection)
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [chain.invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    compiled = graph.compile()
    given = {"messages": [{"role": "user", "content": "Repeat: a b c"}]}
    told = [chunk for chunk, _ in compiled.stream(given, stream_mode="messages")]
    assert sum("routing" in chunk.response_metadata for chunk in told) == 1
    assert sum("total_cost_usd" in chunk.response_metadata for chunk in told) == 1
    assert len(told) > 2


def test_decisions_are_told_to_the_agents_callbacks(agent):
    class Heard(BaseCallbackHandler):
        run_inline = True

        def on_custom_event(self, name, data, **kwargs):
            heard.append((name, data["selected_model"]))

    heard = []
    state = ask(agent(), PARIS, {"callbacks": [Heard()]})
    asked = [message.response_metadata["model_name"] for message in state["messages"][1::2]]
    assert heard == [("lunar_routing", model) for model in asked]


@pytest.mark.parametrize("per", ["call", "run"])
@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_the_models_own_run_tells_of_the_decision_too(
    chat, connection, per, in_async, told, lunar_sandbox
):
    # On the model: Python 3.10 hands an agent's own callbacks on to nobody in async code.
    model = chat("router", callbacks=[told])
    routing = LunarRoutingMiddleware(per=per, models=PAIR, **connection)
    agent = create_agent(model, tools=[get_weather], middleware=[routing])
    ask(agent, PARIS, in_async=in_async)
    assert len(told.ended) == 2
    for result in told.ended:
        (generation,) = result.generations[0]
        metadata = generation.message.response_metadata
        gateway = generation.generation_info["lc_gateway_metadata"]
        assert metadata["routing"]["selected_model"] == metadata["model_name"]
        assert metadata["provider"] == metadata["routing"]["selected_provider"]
        assert gateway["routing"] == metadata["routing"]
    sent = [request["body"] for request in lunar_sandbox.requests()]
    assert not any("lunar_routing" in body for body in sent)


def test_candidates_of_an_agent_must_be_chat_models(chat, connection):
    bound = {name: chat(name).bind(stop=["x"]) for name in PAIR}
    with pytest.raises(ConfigurationError, match="candidates: 'gpt-4o'"):
        LunarRoutingMiddleware(candidates=bound, **connection)


@pytest.mark.parametrize("missing", ["langchain", "langchain_core", "langgraph"])
def test_without_langchain_the_error_names_the_extra(missing):
    program = f"""
import sys
sys.modules[{missing!r}] = None
import langchain_lunar.middleware
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Error: langchain_lunar.middleware needs langchain and langgraph" in done.stderr
    assert "lunar-integrations[agents]" in done.stderr
