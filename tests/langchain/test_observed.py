"""The service as it was seen: streams tell neither usage nor cost, routes come in headers, tools are ignored."""

from __future__ import annotations

import json

import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import ModelError, OutputParserException
from langchain_core.language_models import FakeListChatModel
from pydantic import BaseModel

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, LunarLLM, LunarRouterChain
from langchain_lunar.middleware import LunarRoutingMiddleware
from lunar_core import APIStreamError, BadRequestError
from tests.langchain.router_inputs import PAIR


class Colour(BaseModel):
    """A colour."""

    name: str


@pytest.fixture
def sandbox(lunar_sandbox_factory):
    session = lunar_sandbox_factory(dialect="observed")
    yield session
    session.reset()


@pytest.fixture
def settings(sandbox):
    return {"api_key": sandbox.api_key, "base_url": sandbox.url, "max_retries": 0}


MODELS = {
    "named": lambda settings: ChatLunar(model="gpt-4o-mini", **settings),
    "routed": lambda settings: ChatLunar(model="router", models=PAIR, **settings),
    "chain": lambda settings: LunarRouterChain(models=PAIR, **settings),
    "text": lambda settings: LunarLLM(model="gpt-4o-mini", **settings),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@every_model
def test_a_plain_answer_costs_what_was_billed(make, settings, way, sandbox):
    handler = LunarCostCallbackHandler()
    way.invoke(make(settings), "Say hi", {"callbacks": [handler]})
    assert (handler.total_cost, handler.unpriced) == (sandbox.total_billed(), 0)
    assert handler.total_cost > 0


@every_model
def test_of_a_stream_the_cost_is_unknown_and_not_zero(make, settings, way):
    handler = LunarCostCallbackHandler()
    pieces = way.stream(make(settings), "Repeat: a b c", {"callbacks": [handler]})
    assert "".join(getattr(piece, "text", piece) for piece in pieces) == "a b c"
    (entry,) = handler.ledger
    assert (entry.cost, handler.unpriced) == (None, 1)


@pytest.mark.parametrize("make", [MODELS["routed"], MODELS["chain"]], ids=["routed", "chain"])
def test_a_stream_tells_the_route_that_came_in_a_header(make, settings, way):
    answer = way.streamed(make(settings), "Say hi")
    metadata = answer.response_metadata
    assert metadata["routing"]["selected_model"] == metadata["model_name"]
    assert metadata["model_name"] in PAIR
    assert not {"total_cost_usd", "token_usage"} & metadata.keys()
    assert answer.usage_metadata is None


def test_a_decision_that_names_no_provider_is_one(settings, way):
    chain = LunarRouterChain(models=PAIR, **settings)
    decision = chain.decide("Say hi")
    assert decision.selected_model in PAIR
    answer = way.invoke(chain, "Say hi", stop=["END"])  # decided first, then called
    assert answer.response_metadata["routing"]["selected_model"] in PAIR


@pytest.mark.parametrize("per", ["call", "run"])
def test_an_agent_whose_tools_are_ignored_still_answers(settings, per, sandbox):
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"It is sunny in {city}."

    handler = LunarCostCallbackHandler()
    routing = LunarRoutingMiddleware(per=per, models=PAIR, **settings)
    agent = create_agent(MODELS["routed"](settings), tools=[get_weather], middleware=[routing])
    given = {"messages": [{"role": "user", "content": "Weather in Rome?"}]}
    state = agent.invoke(given, {"callbacks": [handler]})
    assert state["messages"][-1].response_metadata["routing"]["selected_model"] in PAIR
    assert handler.by_node["model"].cost == sandbox.total_billed() > 0


@every_model
def test_an_error_event_without_model_and_choices_is_a_model_error(make, settings, way):
    broken = make(settings).bind(model="gpt-4o-mini!error-mid")
    with pytest.raises(ModelError) as failed:
        way.stream(broken, "Repeat: a b c d e f")
    assert isinstance(failed.value, APIStreamError)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_a_schema_that_was_ignored_is_an_error_that_names_the_model_and_the_way_out(
    settings, way, method
):
    model = MODELS["named"](settings).with_structured_output(Colour, method=method)
    with pytest.raises(
        OutputParserException, match=r"of gpt-4o-mini is no JSON.*method=\"prompt\""
    ):
        way.invoke(model, "The colour is blue")
    asked = MODELS["named"](settings).with_structured_output(Colour, method="prompt")
    assert way.invoke(asked, "The colour is Blue") == Colour(name="Blue")


def test_candidates_that_name_their_provider_are_known_to_the_router(settings, way):
    candidates = {f"openai/{name}": FakeListChatModel(responses=[name]) for name in PAIR}
    answer = way.invoke(LunarRouterChain(candidates=candidates, **settings), "Say hi")
    assert answer.content == answer.response_metadata["routing"]["selected_model"]


def test_candidates_of_one_name_keep_their_providers(settings, way, sandbox):
    names = ["openai/gpt-4o", "azure/gpt-4o"]
    candidates = {name: FakeListChatModel(responses=[name]) for name in names}
    with pytest.raises(BadRequestError, match="azure/gpt-4o"):
        way.invoke(LunarRouterChain(candidates=candidates, **settings), "Say hi")
    assert json.loads(sandbox.requests()[-1]["body"])["models"] == names
