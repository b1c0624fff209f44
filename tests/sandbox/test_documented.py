"""The documented dialect, endpoint by endpoint, against the shapes of the reference."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import HELLO, KEY, call, chat, get, post, tool

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox

USAGE = {
    "prompt_tokens": int,
    "completion_tokens": int,
    "total_tokens": int,
    "input_cost_usd": float,
    "output_cost_usd": float,
    "cache_input_cost_usd": float,
    "total_cost_usd": float,
    "latency_ms": float,
    "ttft_ms": float,
}
ROUTING = {
    "selected_model": str,
    "selected_provider": str,
    "expected_error": float,
    "cost_adjusted_score": float,
    "cluster_id": int,
    "reasoning": str,
}
JWT = {"authorization": "Bearer aGVhZA.cGF5bG9hZA.c2lnbg"}


def shape(value: dict[str, Any]) -> dict[str, type]:
    return {name: type(item) for name, item in value.items()}


def test_a_chat_completion_looks_like_the_reference(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o-mini")
    answer = reply.json()

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert list(answer) == ["id", "object", "model", "choices", "usage"]
    assert answer["id"].startswith("chatcmpl_")
    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-4o-mini")
    (choice,) = answer["choices"]
    assert list(choice) == ["index", "message", "finish_reason"]
    assert choice["message"] == {"role": "assistant", "content": "Hello! How can I help you today?"}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert shape(answer["usage"]) == USAGE


def test_usage_adds_up_in_tokens_and_to_the_last_digit_in_money(lunar_sandbox: Sandbox) -> None:
    usage = chat(lunar_sandbox, model="gpt-4o").json()["usage"]

    assert usage["prompt_tokens"] == 3 + 1  # three for the message, one word
    assert usage["completion_tokens"] == 7
    assert usage["total_tokens"] == 11
    money = {name: Decimal(repr(usage[name])) for name in usage if name.endswith("_usd")}
    assert money["input_cost_usd"] == Decimal("2.50") * 4 / 1_000_000
    assert money["output_cost_usd"] == Decimal("10.00") * 7 / 1_000_000
    assert money["cache_input_cost_usd"] == 0
    assert money["total_cost_usd"] == money["input_cost_usd"] + money["output_cost_usd"]


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "azure/gpt-4o-mini", "gpt-4o-mini"])
def test_the_model_is_echoed_as_it_was_sent(lunar_sandbox: Sandbox, model: str) -> None:
    assert chat(lunar_sandbox, model=model).json()["model"] == model


def test_a_text_completion_looks_like_the_reference(lunar_sandbox: Sandbox) -> None:
    body = {"model": "gpt-4o-mini", "prompt": "Once upon a time", "max_tokens": 5}
    answer = post(lunar_sandbox, "/v1/completions", body).json()

    assert answer["id"].startswith("cmpl_")
    assert answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    assert shape(choice) == {"index": int, "text": str, "finish_reason": str}
    assert (len(choice["text"].split()), choice["finish_reason"]) == (5, "length")
    assert shape(answer["usage"]) == USAGE
    assert answer["usage"]["prompt_tokens"] == 4  # a bare prompt has no message round it


def test_a_text_completion_ends_at_1024_tokens_unless_it_is_told_otherwise(
    lunar_sandbox: Sandbox,
) -> None:
    body = {"model": "gpt-4o-mini", "prompt": "Write 1100 words"}
    answer = post(lunar_sandbox, "/v1/completions", body).json()
    assert answer["usage"]["completion_tokens"] == 1024
    assert answer["choices"][0]["finish_reason"] == "length"
    answer = post(lunar_sandbox, "/v1/completions", {**body, "max_tokens": 2000}).json()
    assert answer["usage"]["completion_tokens"] == 1100


def test_the_router_answers_with_its_route(lunar_sandbox: Sandbox) -> None:
    body = {"messages": [{"role": "user", "content": "Prove that 2 is prime"}], "cost_weight": 0.0}
    reply = post(lunar_sandbox, "/v1/router", body)
    answer = reply.json()

    assert list(answer) == ["id", "object", "model", "routing", "choices", "usage"]
    assert answer["id"].startswith("router-")
    assert answer["object"] == "chat.completion"
    assert shape(answer["routing"]) == ROUTING
    assert answer["model"] == answer["routing"]["selected_model"] == "gpt-4-turbo"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert shape(answer["usage"]) == USAGE
    assert reply.headers["x-sandbox-router"] == "table"


def test_the_router_can_decide_without_answering(lunar_sandbox: Sandbox) -> None:
    body = {"messages": HELLO, "execute": False}
    answer = post(lunar_sandbox, "/v1/router", body).json()

    assert list(answer) == ["id", "object", "model", "routing"]
    assert shape(answer["routing"]) == ROUTING
    assert lunar_sandbox.billed() == []


def test_the_router_keeps_to_the_models_it_was_given(lunar_sandbox: Sandbox) -> None:
    models = ["gpt-3.5-turbo", "mistral/mistral-small-latest"]
    body = {"messages": HELLO, "execute": False, "models": models}
    routing = post(lunar_sandbox, "/v1/router", body).json()["routing"]
    assert routing["selected_model"] in models


@pytest.mark.parametrize(
    "extra",
    [
        {"tools": []},
        {"stop": ["x"]},
        {"top_p": 1.0},
        {"model": "gpt-4o"},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": []},
        {"models": ["gpt-4o"]},
        {"cost_weight": -0.1},
        {"max_tokens": 0},
        {"temperature": 2.1},
        {"execute": "no"},
    ],
    ids=repr,
)
def test_the_router_takes_its_table_and_nothing_else(
    lunar_sandbox: Sandbox, extra: dict[str, Any]
) -> None:
    reply = post(lunar_sandbox, "/v1/router", {"messages": HELLO, **extra})

    assert reply.status == 422
    for problem in reply.json()["detail"]:
        assert {"type", "loc", "msg"} <= problem.keys()
        assert problem["loc"][:2] == ["body", next(iter(extra))]


def test_a_model_without_a_profile_is_no_candidate(lunar_sandbox: Sandbox) -> None:
    reply = post(lunar_sandbox, "/v1/router", {"messages": HELLO, "models": ["gpt-4o", "o3-mini"]})
    assert reply.status == 400
    assert "o3-mini" in reply.json()["detail"]


def test_the_profiles_are_counted(lunar_sandbox: Sandbox) -> None:
    answer = get(lunar_sandbox, "/v1/router/profiles").json()
    assert list(answer) == ["profiles", "count"]
    assert answer["count"] == len(answer["profiles"]) == 6
    assert answer["profiles"][0] == "gpt-4o"


def test_providers_are_a_list_for_one_model(lunar_sandbox: Sandbox) -> None:
    default = get(lunar_sandbox, "/v1/providers").json()
    assert default[0] == {"id": "openai", "type": "primary", "enabled": True, "params": {}}
    assert default == get(lunar_sandbox, "/v1/providers?model=gpt-4o-mini").json()
    llama = get(lunar_sandbox, "/v1/providers?model=llama-3.1-8b").json()
    assert [p["type"] for p in llama] == ["primary", "backup", "backup"]
    assert get(lunar_sandbox, "/v1/providers?model=nope").status == 404


def test_models_are_listed_with_their_owners(lunar_sandbox: Sandbox) -> None:
    answer = get(lunar_sandbox, "/v1/models").json()
    assert answer["object"] == "list"
    owners = {model["id"]: model["owned_by"] for model in answer["data"]}
    assert owners["gpt-4o"] == "openai"
    assert owners["mistral-small-latest"] == "mistral"


def test_prices_are_listed_without_a_key(lunar_sandbox: Sandbox) -> None:
    models = get(lunar_sandbox, "/v1/pricing/models", headers={}).json()
    mini = next(model for model in models if model["id"] == "gpt-4o-mini")
    prices = {
        "input_per_million": 0.15,
        "output_per_million": 0.6,
        "cache_input_per_million": 0.075,
    }
    assert mini == {
        "id": "gpt-4o-mini",
        "owned_by": "openai",
        "providers": [
            {"id": "openai", "model_id": "gpt-4o-mini", **prices},
            {"id": "azure", "model_id": "gpt-4o-mini", **prices},
        ],
        **prices,
    }


ENDPOINTS = [
    ("POST", "/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO}),
    ("POST", "/v1/completions", {"model": "gpt-4o", "prompt": "Hello"}),
    ("POST", "/v1/router", {"messages": HELLO}),
    ("GET", "/v1/router/profiles", None),
    ("GET", "/v1/providers", None),
    ("GET", "/v1/models", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
@pytest.mark.parametrize("headers", [KEY, JWT, {**KEY, "authorization": "Bearer pk_live_abc"}])
def test_a_key_or_a_token_opens_every_endpoint(
    lunar_sandbox: Sandbox, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    assert call(lunar_sandbox, method, path, body, headers).status == 200


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "sk-not-ours"},
        {"authorization": "Bearer pk_live_abc"},
        {"authorization": "Basic a.b.c"},
        {"x-api-key": "wrong", **JWT},
    ],
    ids=repr,
)
def test_nothing_else_opens_any_endpoint(
    lunar_sandbox: Sandbox, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    reply = call(lunar_sandbox, method, path, body, headers)
    assert reply.status == 401
    assert reply.json()["detail"].startswith("Authentication required")


def test_an_unknown_model_is_the_references_404(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="x")
    assert reply.status == 404
    assert reply.body == b'{"detail":"All providers failed for model \'x\': Model not found"}'


@pytest.mark.parametrize(
    "body", [{"model": "nope/gpt-4o"}, {"model": "gpt-4o", "provider": "nope"}]
)
def test_an_unknown_provider_is_a_404(lunar_sandbox: Sandbox, body: dict[str, str]) -> None:
    reply = chat(lunar_sandbox, **body)
    assert reply.status == 404
    assert "nope" in reply.json()["detail"]


def test_a_completion_model_refuses_to_chat(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-3.5-turbo-instruct")
    assert reply.status == 400
    assert "Use /v1/completions instead." in reply.json()["detail"]
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello"}
    assert post(lunar_sandbox, "/v1/completions", body).status == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("messages", []),
        ("messages", "Hello"),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "user", "content": [{"type": "tool_use", "id": "1"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("stop", "x"),
        ("max_tokens", "5"),
        ("max_tokens", 0),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("top_p", 1.1),
        ("presence_penalty", 3),
        ("n", 0),
        ("stream", "yes"),
        ("tools", [{"type": "function", "function": {"name": "has spaces"}}]),
        ("tools", [tool("f", a={"type": "string", "enum": []})]),
        ("tools", [tool("f", a=5)]),
        ("tool_choice", "any"),
        ("response_format", {"type": "json_schema"}),
    ],
    ids=repr,
)
def test_a_bad_field_is_named_in_fastapis_list(
    lunar_sandbox: Sandbox, field: str, value: Any
) -> None:
    reply = chat(lunar_sandbox, **{field: value})
    assert reply.status == 422
    assert {problem["loc"][1] for problem in reply.json()["detail"]} == {field}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b"[]", b"null"),
        *(b'{"temperature": NaN}', b'{"temperature": 1e999}', b'{"model": "\\ud800"}'),
        *(b"[" * 100_000, b'{"a":' * 100_000),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_object_is_a_422(lunar_sandbox: Sandbox, body: bytes) -> None:
    reply = post(lunar_sandbox, "/v1/chat/completions", body)
    assert reply.status == 422
    assert reply.json()["detail"][0]["loc"][0] == "body"


def test_unknown_fields_pass_through_on_chat(lunar_sandbox: Sandbox) -> None:
    assert chat(lunar_sandbox, seed=7, user="u1", metadata={"a": "b"}, whatever=1).status == 200


TOOL_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}


@pytest.mark.parametrize(
    "messages",
    [
        [*HELLO, RESULT],
        [*HELLO, TOOL_CALL],
        [*HELLO, TOOL_CALL, *HELLO],
        [*HELLO, TOOL_CALL, {**RESULT, "tool_call_id": "call_2"}],
        [*HELLO, TOOL_CALL, RESULT, RESULT],
    ],
    ids=["no call", "no result", "text before the result", "wrong id", "two results"],
)
def test_tool_calls_and_results_must_meet(
    lunar_sandbox: Sandbox, messages: list[dict[str, Any]]
) -> None:
    assert chat(lunar_sandbox, messages=[*HELLO, TOOL_CALL, RESULT]).status == 200
    assert chat(lunar_sandbox, messages=messages).status == 400


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/nope", "/v1/chat/completions/x"])
def test_an_unknown_path_is_fastapis_404(lunar_sandbox: Sandbox, path: str) -> None:
    reply = get(lunar_sandbox, path)
    assert (reply.status, reply.body) == (404, b'{"detail":"Not Found"}')


def test_a_wrong_method_is_fastapis_405(lunar_sandbox: Sandbox) -> None:
    reply = get(lunar_sandbox, "/v1/router")
    assert (reply.status, reply.body) == (405, b'{"detail":"Method Not Allowed"}')


def test_unicode_is_not_escaped_on_the_wire(lunar_sandbox: Sandbox) -> None:
    messages = [{"role": "user", "content": "Say «Grüße,你好🌙»"}]
    for stream in (False, True):
        reply = chat(lunar_sandbox, messages=messages, stream=stream)
        assert '"content":"Grüße,你好🌙"' in reply.body.decode().replace('": "', '":"')


def test_it_says_that_it_is_a_sandbox(lunar_sandbox: Sandbox) -> None:
    assert json.loads(get(lunar_sandbox, "/sandbox", headers={}).body) == {
        "sandbox": True,
        "dialect": "documented",
        "router": "table",
        "engine_version": None,
        "generation": "built-in",
        "delay": 0.0,
    }
