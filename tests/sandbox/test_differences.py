"""The tables of the sandbox's README: each row is true, and no row is without its test."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lunar_core.sandbox
from lunar_core.sandbox.catalogue import MODELS
from tests.sandbox.raw import HELLO, KEY, Reply, call, chat, get, post, tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from lunar_core.sandbox import Sandbox

README = Path(lunar_core.sandbox.__file__).with_name("README.md").read_text(encoding="utf-8")
DIALECTS, SERVICE = README.split("\n## ")[1:]
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
CALCULATOR = tool("calculator", x={"type": "number"})
JWT = {"authorization": "Bearer aGVhZA.cGF5bG9hZA.c2lnbg"}


def rows(section: str) -> list[str]:
    _, _, *lines = re.findall(r"^\| ([^|]+?) \|", section, flags=re.MULTILINE)
    return lines


def route(sandbox: Sandbox, **body: Any) -> Reply:
    return post(sandbox, "/v1/router", {"messages": HELLO, **body})


def names_in(reply: Reply) -> set[str]:
    """List the fields of a stream's chunks."""
    return {name for event in reply.events() if event != "[DONE]" for name in event}


def image() -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    return [{"role": "user", "content": [part]}]


def message(reply: Reply) -> dict[str, Any]:
    return dict(reply.json()["choices"][0]["message"])


# Documented, and observed: each takes the two sandboxes.


def costs_of_streams(documented: Sandbox, observed: Sandbox) -> None:
    usage = chat(documented, stream=True).events()[-2]["usage"]
    assert usage["total_cost_usd"] > 0
    for body in ({"stream": True}, STREAMED):
        assert "usage" not in names_in(chat(observed, **body))
        assert "usage" not in names_in(route(observed, **body))
    text = post(observed, "/v1/completions", {"model": "gpt-4o", "prompt": "Hi", "stream": True})
    assert "usage" not in names_in(text)


def routes_of_streams(documented: Sandbox, observed: Sandbox) -> None:
    stream = route(documented, stream=True)
    assert stream.events()[0]["routing"]["selected_model"]
    assert "x-routing-model" not in stream.headers
    stream = route(observed, stream=True)
    assert "routing" not in names_in(stream)
    assert {"x-routing-model", "x-routing-cluster"} <= set(stream.headers)


def tools(documented: Sandbox, observed: Sandbox) -> None:
    called = {"tools": [CALCULATOR], "tool_choice": "required"}
    formatted = {"response_format": {"type": "json_object"}}
    assert message(chat(documented, **called))["tool_calls"]
    json.loads(message(chat(documented, **formatted))["content"])
    for body in (called, formatted):
        assert message(chat(observed, **body)) == message(chat(observed))


def limits(documented: Sandbox, observed: Sandbox) -> None:
    assert message(chat(documented, max_tokens=1)) != message(chat(documented))
    assert len(chat(documented, n=2).json()["choices"]) == 2
    assert chat(documented, temperature=3).status == 422
    for body in ({"max_tokens": 1}, {"n": 2}, {"stop": ["help"]}, {"temperature": 3}):
        assert chat(observed, **body).json()["choices"] == chat(observed).json()["choices"]


def media(documented: Sandbox, observed: Sandbox) -> None:
    assert chat(documented, messages=image()).status == 200
    assert chat(observed, messages=image()).status == 422


def thoughts(documented: Sandbox, observed: Sandbox) -> None:
    answer = chat(documented, model="o3-mini")
    assert message(answer)["reasoning_content"]
    assert answer.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    answer = chat(observed, model="o3-mini")
    assert set(message(answer)) == {"role", "content"}
    assert answer.json()["usage"]["completion_tokens"] == len(message(answer)["content"].split())


def long_prompts(documented: Sandbox, observed: Sandbox) -> None:
    long = [{"role": "user", "content": "word " * MODELS["gpt-3.5-turbo"].window}]
    refused = chat(documented, model="gpt-3.5-turbo", messages=long)
    assert (refused.status, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    failed = chat(observed, model="gpt-3.5-turbo", messages=long)
    assert failed.status == 502
    assert refused.json()["error"]["message"] in failed.json()["detail"]


def stream_errors(documented: Sandbox, observed: Sandbox) -> None:
    *_, error = chat(documented, model="gpt-4o!error-mid", stream=True).events()
    assert list(error) == ["error"]
    assert error["error"]["message"].startswith("All providers failed for model 'gpt-4o")
    *_, error, done = chat(observed, model="gpt-4o!error-mid", stream=True).events()
    assert (error["object"], error["error"]["message"], done) == (
        "error",
        "upstream error",
        "[DONE]",
    )


def other_providers(documented: Sandbox, observed: Sandbox) -> None:
    assert chat(documented, model="mistral/gpt-4o").status == 404
    reply = chat(observed, model="mistral/gpt-4o")
    assert (reply.status, "mistral error: " in reply.json()["detail"]) == (502, True)


def candidates(documented: Sandbox, observed: Sandbox) -> None:
    models = ["openai/gpt-4o", "gpt-4o-mini"]
    routing = route(documented, models=models).json()["routing"]
    assert routing["selected_model"] == "openai/gpt-4o"
    reply = route(observed, models=models)
    assert (reply.status, reply.json()["detail"]["code"]) == (400, "MISSING_PROFILES")


def keys_of_the_router(documented: Sandbox, observed: Sandbox) -> None:
    path, body = "/v1/router", {"messages": HELLO}
    assert post(documented, path, body, JWT).status == 200
    assert post(observed, path, body, JWT).status == 401
    assert post(documented, path, body, {"x-api-key": "bad"}).status == 401
    assert post(observed, path, body, {"x-api-key": "bad"}).status == 403


def lists_of_models(documented: Sandbox, observed: Sandbox) -> None:
    assert get(documented, "/v1/models").status == 200
    assert get(observed, "/v1/models").status == 404
    assert get(observed, "/v1/pricing/models").status == 200


def ids(documented: Sandbox, observed: Sandbox) -> None:
    assert route(documented).json()["id"].startswith("router-")
    assert route(observed).json()["id"].startswith("chatcmpl_")


DIALECT_CHECKS: dict[str, Callable[[Sandbox, Sandbox], None]] = {
    "Cost of a stream": costs_of_streams,
    "Route of a stream": routes_of_streams,
    "Tools and schemas": tools,
    "Limits and sampling": limits,
    "Images, files, sounds": media,
    "Thoughts of reasoning models": thoughts,
    "A prompt that is too long": long_prompts,
    "An error in a stream": stream_errors,
    "A model of another provider": other_providers,
    "Candidates with a provider": candidates,
    "Keys of the router": keys_of_the_router,
    "The list of models": lists_of_models,
    "Ids of routed answers": ids,
}


# The sandbox, and the service: each takes a sandbox of either dialect.


def texts(sandbox: Sandbox) -> None:
    assert message(chat(sandbox)) == message(chat(sandbox))


def routes(sandbox: Sandbox) -> None:
    messages = [{"role": "user", "content": "Prove it"}]
    for weight, model in ((0, "gpt-4-turbo"), (22, "gpt-4o"), (100, "gpt-4o-mini")):
        routing = route(sandbox, messages=messages, cost_weight=weight).json()["routing"]
        assert routing["selected_model"] == model
        cost = MODELS[model].cost_per_1k_tokens
        score = routing["expected_error"] + weight * cost
        assert routing["cost_adjusted_score"] == pytest.approx(score, abs=1e-12)
        assert "Topic 'mathematics' (prove)" in routing["reasoning"]


def tokens(sandbox: Sandbox) -> None:
    answer = chat(sandbox).json()
    written = len(answer["choices"][0]["message"]["content"].split())
    assert answer["usage"]["completion_tokens"] == written


def charges_of_streams(sandbox: Sandbox) -> None:
    usage = chat(sandbox, model="gpt-4o").json()["usage"]
    chat(sandbox, model="gpt-4o", stream=True)
    whole, streamed = sandbox.billed()
    assert streamed["total_cost_usd"] == whole["total_cost_usd"] == usage["total_cost_usd"]


def failures(sandbox: Sandbox) -> None:
    started = time.perf_counter()
    assert chat(sandbox, model="gpt-4o!502-rate-limit*1").status == 502
    assert time.perf_counter() - started < 1
    assert chat(sandbox, model="gpt-4o!502-rate-limit*1").status == 200


def providers(sandbox: Sandbox) -> None:
    listed = get(sandbox, "/v1/providers?model=gpt-4o", KEY).json()
    assert len(listed) == 2
    chat(sandbox, model="gpt-4o")
    assert chat(sandbox, model="gpt-4o!502").status == 502  # azure doesn't stand in
    assert [bill["provider"] for bill in sandbox.billed()] == [listed[0]["id"]]


def scripts(sandbox: Sandbox) -> None:
    sandbox.call_tool("calculator", {"x": 1})
    (called,) = message(chat(sandbox))["tool_calls"]
    assert called["function"] == {"name": "calculator", "arguments": '{"x": 1}'}


def keys(sandbox: Sandbox) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    for key in ({"x-api-key": "pk_anything"}, JWT):
        assert call(sandbox, "POST", "/v1/chat/completions", body, key).status == 200


SERVICE_CHECKS: dict[str, Callable[[Sandbox], None]] = {
    "Texts": texts,
    "Routes": routes,
    "Tokens": tokens,
    "What a stream is charged": charges_of_streams,
    "Failures": failures,
    "Providers": providers,
    "Scripted answers": scripts,
    "Keys": keys,
}


@pytest.mark.parametrize("row", DIALECT_CHECKS)
def test_the_dialects_differ_as_the_table_says(lunar_sandbox_factory: Any, row: str) -> None:
    pair = (lunar_sandbox_factory(dialect=name) for name in ("documented", "observed"))
    DIALECT_CHECKS[row](*pair)


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("row", SERVICE_CHECKS)
def test_the_sandbox_does_what_the_table_says(
    lunar_sandbox_factory: Any, row: str, dialect: str
) -> None:
    SERVICE_CHECKS[row](lunar_sandbox_factory(dialect=dialect))


def test_no_row_is_without_its_test() -> None:
    assert rows(DIALECTS) == list(DIALECT_CHECKS)
    assert rows(SERVICE) == list(SERVICE_CHECKS)
