"""LunarLLM: text completions, one request per prompt, each with its usage and cost."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.load import dumps, load

from langchain_lunar import LunarCostCallbackHandler, LunarLLM
from lunar_core import ConfigurationError, NotFoundError, RateLimitError
from tests.faults_steps import reply

PROMPTS = [f"Repeat: {n}" for n in range(5)]


@pytest.fixture
def llm(lunar_sandbox):
    """Make a LunarLLM of the sandbox."""

    def make(**settings):
        given = {"model": "gpt-4o-mini", "max_retries": 0}
        given |= {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
        return LunarLLM(**{**given, **settings})

    return make


def bodies(sandbox):
    return [json.loads(request["body"]) for request in sandbox.requests()]


def test_a_prompt_is_answered_with_text(llm, way, lunar_sandbox):
    assert way.invoke(llm(temperature=0.5, max_tokens=9), "Repeat: a b") == "a b"
    sent = {"model": "gpt-4o-mini", "prompt": "Repeat: a b", "temperature": 0.5, "max_tokens": 9}
    assert bodies(lunar_sandbox) == [sent]


def test_it_streams_word_by_word(llm, way):
    pieces = way.stream(llm(), "Repeat: a b c")
    assert len([piece for piece in pieces if piece]) == 3
    assert "".join(pieces) == "a b c"


def test_each_prompt_is_a_request_of_its_own_and_answers_keep_the_order(llm, way, lunar_sandbox):
    assert way.batch(llm(), PROMPTS) == [str(n) for n in range(5)]
    assert sorted(body["prompt"] for body in bodies(lunar_sandbox)) == PROMPTS


def test_usage_and_cost_are_on_each_generation(llm, way, lunar_sandbox):
    result = way.generate(llm(), PROMPTS[:2])
    infos = [generations[0].generation_info for generations in result.generations]
    costs = {bill["total_cost_usd"] for bill in lunar_sandbox.billed()}
    assert {info["total_cost_usd"] for info in infos} == costs
    assert all(info["finish_reason"] == "stop" and info["model_name"] for info in infos)
    assert result.llm_output["token_usage"]["total_tokens"] > 0


def test_the_handler_counts_streams_and_batches(llm, way, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    way.stream(llm(), PROMPTS[0], {"callbacks": [handler]})
    way.batch(llm(), PROMPTS, {"callbacks": [handler]})
    assert (handler.total_cost, len(handler.ledger)) == (lunar_sandbox.total_billed(), 6)


def test_stop_and_keywords_of_a_call_reach_the_wire(llm, way, lunar_sandbox):
    way.invoke(llm(), "Repeat: a b c", stop=["c"], top_p=0.5, seed=7)
    (body,) = bodies(lunar_sandbox)
    assert (body["stop"], body["top_p"], body["seed"]) == (["c"], 0.5, 7)


def test_errors_are_of_both_kinds(llm, way):
    with pytest.raises(NotFoundError) as missing:
        way.invoke(llm(model="no-such-model"), "Hello")
    assert isinstance(missing.value, ModelError)
    with pytest.raises(ConfigurationError, match="temperature"):
        way.invoke(llm(temperature=9), "Hello")


def test_retries_and_fallbacks_are_the_cores(way, fault_server):
    fault_server.script(
        reply(429, b'{"retry_after": 0}'),
        reply(json={"model": "b", "choices": [{"index": 0, "text": "Hello"}]}),
    )
    settings = {"api_key": "pk_live_test", "base_url": fault_server.origin}
    model = LunarLLM(model="a", max_retries=0, fallbacks=["b"], **settings)
    assert way.invoke(model, "Hi") == "Hello"
    fault_server.script(reply(429, b'{"retry_after": 99}'))
    with pytest.raises(RateLimitError):
        way.invoke(LunarLLM(model="a", **settings), "Hi")


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")  # it is what users have
def test_it_travels_without_its_key_in_sight(llm, lunar_sandbox, monkeypatch):
    model = llm(temperature=0.1)
    model.invoke("Hello")
    assert lunar_sandbox.api_key not in repr(model) + dumps(model) + str(model.model_dump())
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert twin.invoke("Repeat: a") == "a"
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    told = json.loads(dumps(model))
    again = load(told, allowed_objects=[LunarLLM], valid_namespaces=["langchain_lunar"])
    assert again.invoke("Repeat: a") == "a"


def test_one_model_works_on_several_loops(llm):
    model = llm()
    assert [asyncio.run(model.ainvoke("Repeat: a")) for _ in range(3)] == ["a"] * 3
