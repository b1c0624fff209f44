"""What tracers are told of a run, LangSmith's own among them: who answered, by which route, at what cost; no key."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain_core.tracers.langchain import LangChainTracer

from langchain_lunar import LunarRouterChain
from lunar_core import InternalServerError
from tests.langchain.router_inputs import PAIR

HEADER = "of-the-proxy"


class Collected:
    """Stands for LangSmith's client, whose service is elsewhere: it keeps what the tracer would have it send."""

    def __init__(self):
        self.runs = {}

    def create_run(self, **run):
        self.runs[run["id"]] = run

    def update_run(self, run_id, **changes):
        self.runs[run_id] = {**self.runs[run_id], **changes}

    def of_type(self, kind):
        return [run for run in self.runs.values() if run["run_type"] == kind]


@pytest.fixture
def langsmith():
    return Collected()


@pytest.fixture
def config(langsmith):
    return {"callbacks": [LangChainTracer(client=langsmith, project_name="p")]}


async def read(events):
    return [event async for event in events]


WAYS = {
    "invoke": lambda model, config: model.invoke("Say hi", config),
    "ainvoke": lambda model, config: asyncio.run(model.ainvoke("Say hi", config)),
    "stream": lambda model, config: list(model.stream("Say hi", config)),
    "astream": lambda model, config: asyncio.run(read(model.astream("Say hi", config))),
    "batch": lambda model, config: model.batch(["Say hi"], config),
    "v2": lambda model, config: asyncio.run(
        read(model.astream_events("Say hi", config, version="v2"))
    ),
}


@pytest.fixture(params=["named", "routed", "chain"])
def model(request, chat, lunar_sandbox):
    hidden = {"default_headers": {"X-Proxy-Auth": HEADER}}
    if request.param == "chain":
        settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
        return LunarRouterChain(models=PAIR, cost_weight=0.3, **settings, **hidden)
    name = "router" if request.param == "routed" else "gpt-4o-mini"
    return chat(name, **hidden)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_run_names_who_answered_by_which_route_and_at_what_cost(
    model, way, langsmith, config, lunar_sandbox
):
    way(model, config)
    (run,) = langsmith.of_type("llm")
    (bill,) = lunar_sandbox.billed()
    metadata = run["extra"]["metadata"]
    gateway = metadata["ls_gateway_info"]
    assert metadata["ls_model_name"] == gateway["model"] == bill["model"]
    assert gateway["total_cost_usd"] == bill["total_cost_usd"]
    assert metadata["usage_metadata"]["total_tokens"] > 0
    routed = gateway["requested_model"] == "router"
    assert routed == ("routing" in gateway)
    assert metadata["ls_provider"] == ("openai" if routed else "lunar")


def test_a_chains_run_has_its_settings_and_ends_with_the_message(langsmith, config, chat):
    chain = LunarRouterChain(chat("router", models=PAIR, cost_weight=0.3))
    answer = chain.invoke("Say hi", config)
    (run,) = langsmith.of_type("chain")
    metadata = run["extra"]["metadata"]
    assert (metadata["lunar_models"], metadata["lunar_cost_weight"]) == (PAIR, 0.3)
    assert run["outputs"]["output"].response_metadata == answer.response_metadata


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_neither_key_nor_header_is_in_it(model, way, langsmith, config, lunar_sandbox):
    way(model, config)
    text = json.dumps(list(langsmith.runs.values()), default=repr)
    assert lunar_sandbox.api_key not in text
    assert HEADER not in text


def test_a_failed_run_has_the_error(langsmith, config, chat):
    with pytest.raises(InternalServerError):
        chat("gpt-4o!503").invoke("Say hi", config)
    (run,) = langsmith.of_type("llm")
    assert "InternalServerError" in run["error"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch"])
def test_cost_is_where_langsmith_sums_it_up_when_asked(way, chat, langsmith, config, lunar_sandbox):
    WAYS[way](chat(langsmith_cost=True), config)
    (run,) = langsmith.of_type("llm")
    (bill,) = lunar_sandbox.billed()
    assert run["extra"]["metadata"]["usage_metadata"]["total_cost"] == bill["total_cost_usd"]
