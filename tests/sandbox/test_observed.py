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
        {"stop": "x"},
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


CHAT, TEXT, ROUTER = "/v1/chat/completions", "/v1/completions", "/v1/router"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "gpt-4o", "messages": HELLO},
    TEXT: {"model": "gpt-4o", "prompt": "Hello"},
    ROUTER: {"messages": HELLO},
}


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (CHAT, "messages", [{"role": "user", "content": [{"type": "text", "text": "x"}]}]),
        (CHAT, "messages", [{"role": "user", "content": None}]),
        (ROUTER, "messages", [{"role": "user", "content": None}]),
        (ROUTER, "messages", []),
        (ROUTER, "temperature", 2.5),
        (ROUTER, "max_tokens", 0),
        (TEXT, "stop", "x"),
        (TEXT, "max_tokens", "many"),
    ],
    ids=repr,
)
def test_what_it_reads_it_checks(observed: Sandbox, path: str, field: str, value: Any) -> None:
    reply = post(observed, path, {**BODIES[path], field: value})
    assert reply.status == 422
    assert reply.json()["detail"][0]["loc"][1] == field


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (CHAT, "temperature", 3),
        (CHAT, "stop", "x"),
        (CHAT, "max_tokens", 0),
        (CHAT, "messages", []),
        (TEXT, "temperature", 3),
        (ROUTER, "stop", "x"),
    ],
    ids=repr,
)
def test_what_it_does_not_read_it_does_not_check(
    observed: Sandbox, path: str, field: str, value: Any
) -> None:
    assert post(observed, path, {**BODIES[path], field: value}).status == 200


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
    for model, detail in {
        "nope": "Model 'nope' not found (expected nope.yaml).",
        "": "Model '' not found (expected .yaml).",
        "nope/gpt-9": "Model 'gpt-9' not found (expected gpt-9.yaml).",
        "nope/gpt-4o": "Provider 'nope' not found for model 'gpt-4o'",
    }.items():
        reply = chat(observed, model=model)
        assert (reply.status, reply.json()) == (404, {"detail": detail})


@pytest.mark.parametrize(
    ("model", "brand"), [("mistral/gpt-4o", "Mistral"), ("openai/gpt-9", "OpenAI")]
)
def test_a_provider_that_is_named_is_asked_for_models_that_it_does_not_have(
    observed: Sandbox, model: str, brand: str
) -> None:
    provider, name = model.split("/")
    reply = chat(observed, model=model)
    assert reply.status == 502
    assert reply.json()["detail"] == (
        f"All providers failed for model '{name}': {provider} error: litellm.NotFoundError:"
        f" NotFoundError: {brand}Exception - The model `{name}` does not exist."
    )


def test_a_candidate_with_a_providers_prefix_has_no_profile(observed: Sandbox) -> None:
    models = ["openai/gpt-4o", "gpt-4o-mini"]
    reply = post(observed, ROUTER, {"messages": HELLO, "models": models})
    assert (reply.status, reply.json()["detail"]["missing_profiles"]) == (400, ["openai/gpt-4o"])


def test_an_answer_is_its_text_alone_even_a_reasoning_models(observed: Sandbox) -> None:
    answer = chat(observed, model="o3-mini").json()
    assert list(answer["choices"][0]["message"]) == ["role", "content"]
    assert answer["usage"]["completion_tokens"] == len(
        ["Hello!", "How", "can", "I", "help", "you", "today?"]
    )
    reply = chat(observed, model="o3-mini", stream=True)
    deltas = [event["choices"][0]["delta"] for event in reply.events()[:-2]]
    assert {name for delta in deltas for name in delta} == {"content"}


def test_there_is_no_list_of_models_but_of_prices(observed: Sandbox) -> None:
    assert get(observed, "/v1/models", KEY).status == 404
    assert get(observed, "/v1/pricing/models", {}).json()[0]["id"] == "gpt-4o"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/nothing"])
def test_a_path_that_does_not_exist_wants_a_key_first(observed: Sandbox, path: str) -> None:
    missing = {"detail": "Missing x-api-key header"}
    assert (get(observed, path, {}).status, get(observed, path, {}).json()) == (401, missing)
    assert get(observed, path, {"x-api-key": "bad"}).status == 403
    assert get(observed, path, KEY).json() == {"detail": "Not Found"}


def test_one_price_can_be_asked_for(observed: Sandbox) -> None:
    price = get(observed, "/v1/pricing/openai/gpt-4o", {})
    assert price.status == 200
    prices = {"input_per_million": 2.5, "output_per_million": 10.0, "cache_input_per_million": 1.25}
    assert price.json() == {"ModelId": "gpt-4o", "UpdatedAt": None, **prices}
    for path in ("mistral/gpt-4o", "openai/gpt-9"):
        reply = get(observed, f"/v1/pricing/{path}", {})
        assert (reply.status, reply.json()) == (404, {"detail": "Price not found"})


def test_providers_come_in_a_bare_list_and_are_of_any_type(observed: Sandbox) -> None:
    answer = get(observed, "/v1/providers?model=claude-3-haiku", KEY).json()
    params = {"model_name": "claude-3-haiku"}
    assert answer == [
        {"id": "anthropic", "type": "anthropic_litellm", "enabled": True, "params": params},
        {"id": "bedrock", "type": "bedrock", "enabled": True, "params": params},
    ]
    assert get(observed, "/v1/providers?model=openai/gpt-4o", KEY).json() == {
        "detail": "Model 'openai/gpt-4o' not found."
    }


def test_an_error_in_a_stream_is_followed_by_done(observed: Sandbox) -> None:
    *_, error, done = chat(observed, model="gpt-4o!error-mid", stream=True).events()
    assert error["object"] == "error"
    assert error["error"] == {"message": "upstream error", "type": "error"}
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
