"""Agents: Lunar chooses the model of each call, or of each run; tools and structured output stay."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import FakeListChatModel
from pydantic import BaseModel

from langchain_lunar import LunarCostCallbackHandler, LunarRouterChain
from langchain_lunar.middleware import LunarRoutingMiddleware
from lunar_core import ConfigurationError

PAIR = ["gpt-4o", "gpt-4o-mini"]


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


@pytest.fixture
def agent(chat, lunar_sandbox):
    """Make an agent with one tool, routed by the middleware."""

    def make(model="router", per="call", **settings):
        connection = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
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
    state = ask(agent(per=per), "What is the weather in Paris?", in_async=in_async)
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
    ask(agent(), "What is the weather in Paris?", {"callbacks": [handler]})
    assert handler.total_cost == lunar_sandbox.total_billed() > 0
    assert handler.by_node["model"].calls == 2


def test_structured_output_stays(agent):
    class Weather(BaseModel):
        """The weather."""

        city: str

    routed = agent(response_format=ToolStrategy(Weather))
    state = ask(routed, "Give me the Weather: the city is Paris")
    assert isinstance(state["structured_response"], Weather)


def test_settings_that_cannot_work_are_refused(lunar_sandbox):
    connection = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
    with pytest.raises(ConfigurationError, match="per"):
        LunarRoutingMiddleware(per="day", **connection)
    with pytest.raises(ConfigurationError, match="models"):
        LunarRoutingMiddleware(LunarRouterChain(**connection), models=PAIR)


def test_candidates_of_other_vendors_may_answer(lunar_sandbox):
    connection = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
    candidates = {name: FakeListChatModel(responses=[f"I am {name}"]) for name in PAIR}
    routing = LunarRoutingMiddleware(candidates=candidates, **connection)
    state = ask(create_agent(candidates["gpt-4o"], tools=[], middleware=[routing]), "Say hi")
    answer = state["messages"][-1]
    assert answer.content == f"I am {answer.response_metadata['routing']['selected_model']}"
