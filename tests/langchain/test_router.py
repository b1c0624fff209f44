"""LunarRouterChain: how it chooses, prompt by prompt, who answers then, and who if routing fails."""

from __future__ import annotations

import asyncio
import importlib.machinery
import json
import pickle
import sys
import types

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_lunar import ChatLunar, LunarRouterChain
from lunar_core import (
    APIResponseValidationError,
    APIStreamError,
    ConfigurationError,
    InternalServerError,
    LunarError,
    RoutingDecision,
)
from tests.faults_steps import completion, reply
from tests.langchain.router_inputs import EASY, HARD, PAIR

FAKE = FakeListChatModel(responses=["I am a fake"])


class Colour(BaseModel):
    """A colour."""

    name: str


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def sent(sandbox):
    return [(request["path"], json.loads(request["body"])) for request in sandbox.requests()]


# What is chosen


def test_the_answer_says_which_model_was_chosen_and_why(chain, way, lunar_sandbox):
    answer = way.invoke(chain(models=PAIR, cost_weight=0.0), HARD)
    route = answer.response_metadata["routing"]
    assert route["selected_model"] == answer.response_metadata["model_name"] in PAIR
    assert {"expected_error", "cluster_id", "reasoning"} <= route.keys()
    ((path, body),) = sent(lunar_sandbox)
    assert (path, body["models"], body["cost_weight"]) == ("/v1/router", PAIR, 0.0)


def test_a_decision_alone_generates_nothing(chain, lunar_sandbox):
    router = chain(models=PAIR)
    decided = router.decide(HARD), asyncio.run(router.adecide(HARD))
    assert all(isinstance(d, RoutingDecision) and d.selected_model in PAIR for d in decided)
    assert lunar_sandbox.billed() == []
    assert all(body["execute"] is False for _, body in sent(lunar_sandbox))


def test_a_higher_cost_weight_chooses_cheaper(chain):
    chosen = [
        chain(models=PAIR, cost_weight=weight).decide(HARD).selected_model
        for weight in (0.0, 0.3, 80.0)
    ]
    assert chosen == ["gpt-4o", "gpt-4o", "gpt-4o-mini"]


def test_tools_are_kept_by_deciding_first(chain, way, lunar_sandbox):
    answer = way.invoke(chain(models=PAIR).bind_tools([multiply]), "multiply 3 by 4")
    assert answer.tool_calls[0]["args"] == {"a": 3, "b": 4}
    assert answer.response_metadata["routing"]["selected_model"] in PAIR
    assert [path for path, _ in sent(lunar_sandbox)] == ["/v1/router", "/v1/chat/completions"]


def test_structured_output_is_routed_too(chain, way):
    found = way.invoke(chain(models=PAIR).with_structured_output(Colour), "The colour is blue")
    assert isinstance(found, Colour)


def test_the_raw_message_of_a_structured_output_says_how_it_came_about(chain, way):
    router = chain(models=PAIR).with_structured_output(Colour, include_raw=True)
    found = way.invoke(router, "The colour is blue")
    assert found["raw"].response_metadata["routing"]["selected_model"] in PAIR
    assert isinstance(found["parsed"], Colour)


# Settings


def test_the_environment_is_enough(lunar_sandbox, monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    answer = LunarRouterChain(models=PAIR, cost_weight=0.3).invoke(EASY)
    assert answer.response_metadata["routing"]["selected_model"] == "gpt-4o-mini"


def test_keywords_of_a_call_reach_the_wire_and_win(chain, way, lunar_sandbox):
    router = chain(models=PAIR, max_tokens=3)
    way.invoke(router, EASY, cost_weight=2.0, max_tokens=7)
    way.invoke(router, EASY, model="gpt-4o-mini", top_p=0.5)
    (first, routed), (second, pinned) = sent(lunar_sandbox)
    assert (first, routed["cost_weight"], routed["max_tokens"]) == ("/v1/router", 2.0, 7)
    assert (second, pinned["model"], pinned["top_p"]) == (
        "/v1/chat/completions",
        "gpt-4o-mini",
        0.5,
    )


def test_the_llms_own_settings_are_those_of_its_choice(chat, way, lunar_sandbox):
    llm = chat("gpt-4o-mini", models=PAIR, cost_weight=0.3, temperature=0.1)
    router = LunarRouterChain(llm)
    assert router.llm is llm
    way.invoke(router, EASY)
    way.invoke(RunnableLambda(router.decide, afunc=router.adecide), EASY)
    for path, body in sent(lunar_sandbox):
        assert (path, body["models"], body["cost_weight"]) == ("/v1/router", PAIR, 0.3)


def test_settings_that_contradict_each_other_are_refused(chain, lunar_sandbox):
    llm = ChatLunar(model="router", api_key=lunar_sandbox.api_key, base_url=lunar_sandbox.url)
    with pytest.raises(ConfigurationError, match="models"):
        LunarRouterChain(llm, models=PAIR)
    with pytest.raises(ConfigurationError, match="models"):
        chain(models=PAIR[:1])
    with pytest.raises(ConfigurationError, match="candidates"):
        chain(candidates={"gpt-4o": FakeListChatModel(responses=["x"])})
    assert LunarRouterChain(llm).invoke(EASY).response_metadata["routing"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"candidates": {"a": FAKE, "b": 7}}, "candidates: 'b' is no chat model"),
        ({"candidates": "gpt-4o"}, "candidates: expected a mapping"),
        ({"candidates": {"a": FAKE, "b": FAKE}, "models": PAIR}, "models"),
        ({"candidates": {"a": FAKE, "b": FAKE}, "default_model": "c"}, "default_model: 'c'"),
        ({"on_routing_error": "fallback"}, "default_model: needed"),
        ({"model": "gpt-4o"}, "model: the router chooses it"),
    ],
)
def test_settings_that_cannot_work_name_what_is_wrong(chain, settings, named):
    with pytest.raises(ConfigurationError, match=named):
        chain(**settings)


def test_settings_belong_to_the_llm_if_there_is_one(chat):
    with pytest.raises(ConfigurationError, match="temperature: set this on the llm"):
        LunarRouterChain(chat("router"), temperature=0.5)


# Candidates


def test_candidates_are_asked_in_lunars_place(chain, way, lunar_sandbox):
    candidates = {name: FakeListChatModel(responses=[f"I am {name}"]) for name in PAIR}
    answer = way.invoke(chain(candidates=candidates), HARD)
    route = answer.response_metadata["routing"]
    assert answer.content == f"I am {route['selected_model']}"
    assert "total_cost_usd" not in answer.response_metadata
    assert lunar_sandbox.billed() == []
    assert sent(lunar_sandbox)[0][1]["models"] == PAIR


def test_the_first_chunk_of_a_candidate_says_how_it_was_chosen(chain, way):
    candidates = {name: FakeListChatModel(responses=["abc"]) for name in PAIR}
    chunks = way.stream(chain(candidates=candidates), HARD)
    assert [chunk.content for chunk in chunks] == ["a", "b", "c", *[""] * (len(chunks) - 3)]
    routes = [chunk.response_metadata.get("routing") for chunk in chunks]
    assert routes[0]["selected_model"] in PAIR
    assert not any(routes[1:])


@pytest.mark.parametrize("given", ["openai/gpt-4o", "gpt-4o"])
def test_ids_mean_the_same_with_and_without_their_provider(chain, way, given):
    candidates = {given: FAKE, "gpt-4o-mini": FAKE}
    answer = way.invoke(chain(candidates=candidates), HARD)
    assert answer.response_metadata["routing"]["selected_model"] in {given, "gpt-4o"}


def test_a_candidate_may_be_pinned(chain, way, lunar_sandbox):
    candidates = {name: FakeListChatModel(responses=[name]) for name in PAIR}
    router = chain(candidates=candidates)
    assert way.invoke(router, HARD, model="gpt-4o-mini").content == "gpt-4o-mini"
    assert sent(lunar_sandbox) == []
    with pytest.raises(ConfigurationError, match="model: 'gpt-9' is not among the candidates"):
        way.invoke(router, HARD, model="gpt-9")


def test_a_string_is_made_a_model_by_langchain(chain, way, monkeypatch):
    # Some vendor's package, as far as LangChain looks at it. It remembers it: no other test may name this vendor.
    vendor = types.ModuleType("langchain_perplexity")
    vendor.__spec__ = importlib.machinery.ModuleSpec("langchain_perplexity", None)
    vendor.ChatPerplexity = lambda model, **_: FakeListChatModel(responses=[f"I am {model}"])
    monkeypatch.setitem(sys.modules, "langchain_perplexity", vendor)
    router = chain(candidates={name: f"perplexity:{name}" for name in PAIR})
    for twin in (router, pickle.loads(pickle.dumps(router))):
        assert way.invoke(twin, HARD, cost_weight=0.0).content == "I am gpt-4o"


@pytest.mark.parametrize("name", ["no-such-vendor:x", "gpt-4o", "bedrock:x"])
def test_a_string_that_langchain_cannot_make_a_model_of_is_named(chain, name):
    with pytest.raises(ConfigurationError, match=f"candidates: '{name}'"):
        chain(candidates={"a": FAKE, "b": name})


@pytest.mark.parametrize(("sticky", "decided"), [("tools", 1), ("off", 3)])
def test_a_candidate_sees_its_tools_answered(chain, way, lunar_sandbox, sticky, decided):
    llm = chain(sticky=sticky).router
    pair = {name: llm.model_copy(update={"model": name}) for name in PAIR}
    router = LunarRouterChain(llm, candidates=pair).bind_tools([multiply])
    talk = [HumanMessage("multiply 3 by 4")]
    for _ in range(2):
        call = way.invoke(router, talk, tool_choice="required")
        talk += [call, ToolMessage("12", tool_call_id=call.tool_calls[0]["id"])]
    answer = way.invoke(router, talk)
    assert answer.response_metadata["routing"] == call.response_metadata["routing"]
    assert [path for path, _ in sent(lunar_sandbox)].count("/v1/router") == decided


@pytest.mark.parametrize("include_raw", [False, True])
def test_candidates_structure_their_output_too(chain, way, chat, include_raw):
    candidates = {name: chat(name) for name in PAIR}
    router = chain(candidates=candidates)
    found = way.invoke(
        router.with_structured_output(Colour, include_raw=include_raw), "The colour is blue"
    )
    if include_raw:
        assert found["raw"].response_metadata["routing"]["selected_model"] in PAIR
        found = found["parsed"]
    assert isinstance(found, Colour)


# When routing fails


def fallback(chain, **settings):
    return chain(
        models=["gpt-4o!503", "gpt-4o-mini!503"],
        on_routing_error="fallback",
        default_model="gpt-4o-mini",
        **settings,
    )


def test_a_router_that_fails_is_told_or_replaced(way, fault_server):
    settings = {"api_key": "pk_live_test", "base_url": fault_server.origin, "max_retries": 0}
    fault_server.decide(
        lambda request: (
            reply(json=completion("Hello"))
            if request.path == "/v1/chat/completions"
            else reply(503, b'{"detail": "router down"}')
        )
    )
    with pytest.raises(LunarError, match="router down"):
        way.invoke(LunarRouterChain(**settings), HARD)
    instead = LunarRouterChain(on_routing_error="fallback", default_model="gpt-4o", **settings)
    answer = way.invoke(instead, HARD)
    assert answer.content == "Hello"
    assert "router down" in str(answer.response_metadata["routing_error"])


def test_a_stream_falls_back_until_its_first_chunk(chain, way, heard):
    chunks = way.stream(fallback(chain), "Repeat: a b c", {"callbacks": [heard]})
    whole = chunks[0].__add__(chunks[1:])
    assert (whole.content, whole.response_metadata["model_name"]) == ("a b c", "gpt-4o-mini")
    assert whole.response_metadata["routing_error"].startswith("InternalServerError: 503")
    (told,) = heard.custom
    assert told["selected_model"] == "gpt-4o-mini"
    assert told["routing_error"] == whole.response_metadata["routing_error"]


def test_a_stream_that_has_begun_is_not_begun_again(chain, way):
    pair = ["gpt-4o!error-mid", "gpt-4o-mini!error-mid"]
    router = chain(models=pair, on_routing_error="fallback", default_model="gpt-4o")
    chunks = []
    with pytest.raises(APIStreamError):
        way.stream(router, "Repeat: a b c d", into=chunks)
    assert chunks[0].response_metadata["routing"]


def test_the_first_of_the_models_stands_in_without_a_default(chain, way, fault_server):
    candidates = {"a": FakeListChatModel(responses=["I am a"]), "b": FAKE}
    fault_server.script(reply(503, b"{}"))
    router = chain(candidates=candidates, on_routing_error="fallback", base_url=fault_server.origin)
    answer = way.invoke(router, HARD)
    assert answer.content == "I am a"
    assert "routing_error" in answer.response_metadata


def test_a_choice_that_is_none_of_the_candidates_is_a_routing_error(chain, way, fault_server):
    decision = {"routing": {"selected_model": "gpt-9"}}
    fault_server.decide(lambda request: reply(json=decision))
    candidates = {"a": FakeListChatModel(responses=["I am a"]), "b": FAKE}
    settings = {"candidates": candidates, "base_url": fault_server.origin}
    with pytest.raises(APIResponseValidationError, match="'gpt-9', none of the candidates a, b"):
        way.invoke(chain(**settings), HARD)
    assert way.invoke(chain(on_routing_error="fallback", **settings), HARD).content == "I am a"


@pytest.mark.parametrize("fault", ["401", "403"])
def test_what_would_befall_any_model_is_not_tried_again(chain, way, lunar_sandbox, fault):
    router = chain(
        models=[f"{name}!{fault}" for name in PAIR],
        on_routing_error="fallback",
        default_model="gpt-4o",
    )
    with pytest.raises(ModelError):
        way.invoke(router, HARD)
    assert len(sent(lunar_sandbox)) == 1


def test_a_candidate_that_fails_has_not_failed_to_be_routed(chain, chat, way, lunar_sandbox):
    candidates = {"gpt-4o": chat("gpt-4o!503"), "gpt-4o-mini": chat("gpt-4o-mini!503")}
    router = chain(candidates=candidates, on_routing_error="fallback")
    with pytest.raises(InternalServerError):
        way.invoke(router, HARD)
    assert [path for path, _ in sent(lunar_sandbox)] == ["/v1/router", "/v1/chat/completions"]


def test_a_pinned_model_that_fails_has_not_failed_to_be_routed(chain, way, lunar_sandbox):
    with pytest.raises(InternalServerError):
        way.invoke(fallback(chain), HARD, model="gpt-4o!503")
    assert len(sent(lunar_sandbox)) == 1
