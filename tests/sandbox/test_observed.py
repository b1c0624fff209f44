"""The observed dialect: what differs from the reference, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import HELLO, KEY, call, chat, get, post, tool
from tests.sandbox.test_documented import JWT, ROUTING, USAGE, shape

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


@pytest.fixture
def observed(lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(dialect="observed")


def test_a_completion_has_no_created_and_an_underscore_in_its_id(observed: Sandbox) -> None:
    answer = chat(observed, model="openai/gpt-4o-mini").json()
    assert list(answer) == ["id", "object", "model", "choices", "usage"]
    assert answer["id"].startswith("chatcmpl_")
    assert answer["model"] == "openai/gpt-4o-mini"
    assert shape(answer["usage"]) == USAGE
    assert answer["usage"]["ttft_ms"] == answer["usage"]["latency_ms"]
    text = post(observed, "/v1/completions", {"model": "gpt-4o", "prompt": "Hello"}).json()
    assert text["id"].startswith("cmpl_")


def test_a_stream_has_no_role_and_no_usage(observed: Sandbox) -> None:
    reply = chat(observed, stream=True, stream_options={"include_usage": True})
    first, *_, last, done = reply.events()
    assert first == {
        "id": first["id"],
        "object": "chat.completion.chunk",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": {"content": "Hello! "}, "finish_reason": None}],
    }
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert done == "[DONE]"
    assert b"usage" not in reply.body
    assert observed.billed()[0]["usage_sent"] is False


def test_a_text_stream_ends_with_a_chat_chunk(observed: Sandbox) -> None:
    body = {"model": "gpt-4o", "prompt": "Hello", "stream": True}
    reply = post(observed, "/v1/completions", body)
    *texts, last, _ = reply.events()
    assert {chunk["object"] for chunk in texts} == {"text_completion.chunk"}
    assert reply.text() == "Hello! How can I help you today?"
    assert last["object"] == "chat.completion.chunk"
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]


def test_the_router_tells_all_scores(observed: Sandbox) -> None:
    answer = post(observed, "/v1/router", {"messages": HELLO}).json()
    assert answer["id"].startswith("chatcmpl_")
    scores = answer["routing"].pop("all_scores")
    assert shape(answer["routing"]) == ROUTING
    assert scores[answer["model"]] == min(scores.values())
    assert len(scores) == 6
    assert answer["routing"]["reasoning"].count("\n") == 6


def test_a_decision_has_empty_choices_and_no_provider(observed: Sandbox) -> None:
    answer = post(observed, "/v1/router", {"messages": HELLO, "execute": False}).json()
    assert (answer["choices"], answer["usage"]) == ([], None)
    assert answer["routing"]["selected_provider"] == ""
    assert answer["routing"]["selected_model"] == answer["model"]


def test_a_routed_stream_tells_its_route_in_headers_only(observed: Sandbox) -> None:
    reply = post(observed, "/v1/router", {"messages": HELLO, "stream": True})
    assert reply.headers["x-routing-model"] == reply.events()[0]["model"]
    assert reply.headers["x-routing-cluster"] == "0"
    assert b"routing" not in reply.body


@pytest.mark.parametrize(
    "ignored",
    [
        {"max_tokens": 1},
        {"n": 3},
        {"tools": [tool("hello_tool")], "tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"provider": "nope"},
        {"stop": ["help"]},
        {"logprobs": True},
        {"max_tokens": "many"},
        {"reasoning_effort": "high"},
    ],
    ids=repr,
)
def test_other_parameters_are_accepted_and_ignored(
    observed: Sandbox, ignored: dict[str, Any]
) -> None:
    (choice,) = chat(observed, **ignored).json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello! How can I help you today?"}
    assert choice["finish_reason"] == "stop"
    routed = post(observed, "/v1/router", {"messages": HELLO, **ignored})
    assert routed.json()["choices"][0]["message"] == choice["message"]


def test_a_body_is_json_where_its_type_says_so(observed: Sandbox) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    for told in ("application/json", "Application/JSON; charset=utf-8", "application/a+json"):
        headers = {**KEY, "content-type": told}
        assert post(observed, "/v1/chat/completions", body, headers).status == 200
    for told in ("text/plain", "application/x-www-form-urlencoded", "json"):
        headers = {**KEY, "content-type": told}
        refused = post(observed, "/v1/chat/completions", body, headers)
        assert (refused.status, refused.json()["detail"][0]["loc"]) == (422, ["body"])


@pytest.mark.parametrize(
    "refused",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": []},
        {"stop": "x"},
        {"temperature": 2.5},
    ],
    ids=repr,
)
def test_what_it_reads_it_checks(observed: Sandbox, refused: dict[str, Any]) -> None:
    for path, model in (("/v1/chat/completions", {"model": "gpt-4o"}), ("/v1/router", {})):
        reply = post(observed, path, {"messages": HELLO, **model, **refused})
        assert reply.status == 422
        assert reply.json()["detail"][0]["loc"][1] == next(iter(refused))


def test_too_few_models_and_negative_weights_are_422(observed: Sandbox) -> None:
    for field, value in (("models", ["gpt-4o"]), ("cost_weight", -1)):
        assert post(observed, "/v1/router", {"messages": HELLO, field: value}).status == 422


def test_models_without_profiles_are_an_object_in_a_400(observed: Sandbox) -> None:
    reply = post(observed, "/v1/router", {"messages": HELLO, "models": ["gpt-4o", "o3-mini"]})
    detail = reply.json()["detail"]
    assert reply.status == 400
    assert detail["code"] == "MISSING_PROFILES"
    assert detail["missing_profiles"] == ["o3-mini"]
    assert len(detail["available_profiles"]) == 6


ROUTER_ENDPOINTS = [
    ("POST", "/v1/router", {"messages": HELLO}),
    ("GET", "/v1/router/profiles", None),
    ("GET", "/v1/providers", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTER_ENDPOINTS)
def test_the_routers_endpoints_want_an_api_key(
    observed: Sandbox, method: str, path: str, body: Any
) -> None:
    for headers in ({}, JWT):
        reply = call(observed, method, path, body, headers)
        assert (reply.status, reply.json()) == (401, {"detail": "Missing x-api-key header"})
    reply = call(observed, method, path, body, {"x-api-key": "bad"})
    assert (reply.status, reply.json()) == (403, {"detail": "Unauthorized"})


def test_chat_takes_either(observed: Sandbox) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    assert post(observed, "/v1/chat/completions", body, JWT).status == 200
    for headers in ({}, {"x-api-key": "bad"}, {"authorization": "Bearer bad"}):
        reply = post(observed, "/v1/chat/completions", body, headers)
        assert reply.status == 401
        assert reply.json()["detail"].startswith("Authentication required. Provide either")


def test_unknown_models_and_providers_are_404(observed: Sandbox) -> None:
    reply = chat(observed, model="nope")
    assert reply.status == 404
    assert reply.json()["detail"].startswith("Model 'nope' not found")
    reply = chat(observed, model="nope/gpt-4o")
    detail = {"detail": "Provider 'nope' not found for model 'gpt-4o'"}
    assert (reply.status, reply.json()) == (404, detail)


def test_there_is_no_list_of_models_but_of_prices(observed: Sandbox) -> None:
    assert get(observed, "/v1/models").status == 404
    assert get(observed, "/v1/pricing/models", {}).json()[0]["id"] == "gpt-4o"


def test_providers_come_in_an_object_and_are_of_any_type(observed: Sandbox) -> None:
    answer = get(observed, "/v1/providers?model=llama-3.1-8b", KEY).json()
    assert list(answer) == ["providers"]
    types = [provider["type"] for provider in answer["providers"]]
    assert types == ["primary", "backup", "overflow"]


def test_an_error_in_a_stream_is_followed_by_done(observed: Sandbox) -> None:
    *_, error, done = chat(observed, model="gpt-4o!error-mid", stream=True).events()
    assert error["object"] == "error"
    assert error["error"]["message"].startswith("All providers failed for model")
    assert {"id", "object", "error"} == error.keys()
    assert done == "[DONE]"


def test_a_failing_upstream_is_a_502(observed: Sandbox) -> None:
    reply = chat(observed, model="gpt-4o!502")
    assert reply.status == 502
    assert reply.json()["detail"].startswith("All providers failed for model")
    models = ["gpt-4o!502", "gpt-3.5-turbo!502"]
    reply = post(observed, "/v1/router", {"messages": HELLO, "models": models})
    assert reply.status == 502
    assert reply.json()["detail"].startswith("Model execution failed: ")


def test_a_chat_with_a_completion_model_is_a_400(observed: Sandbox) -> None:
    reply = chat(observed, model="gpt-3.5-turbo-instruct")
    assert reply.status == 400
    assert reply.json()["detail"].endswith("Use /v1/completions instead.")
