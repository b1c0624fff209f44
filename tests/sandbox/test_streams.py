"""Streams of the documented dialect, event by event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import HELLO, chat, post, tool
from tests.sandbox.test_documented import ROUTING, USAGE, shape

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


def test_a_chat_stream_is_openais(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, stream=True)
    *chunks, done = reply.events()

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["model"] for chunk in chunks} == {"gpt-4o-mini"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta["content"] for delta in deltas[1:-1]] == [
        "Hello! ", "How ", "can ", "I ", "help ", "you ", "today?",
    ]  # fmt: skip
    assert deltas[-1] == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * 8 + ["stop"]


def test_usage_comes_on_the_last_chunk_with_choices(lunar_sandbox: Sandbox) -> None:
    *chunks, last, _ = chat(lunar_sandbox, stream=True).events()
    assert last["choices"][0]["finish_reason"] == "stop"
    assert shape(last["usage"]) == USAGE
    assert 0 < last["usage"]["ttft_ms"] <= last["usage"]["latency_ms"]
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_comes_on_a_chunk_of_its_own_where_it_is_asked_for(lunar_sandbox: Sandbox) -> None:
    options = {"stream_options": {"include_usage": True}}
    *chunks, last, _ = chat(lunar_sandbox, stream=True, **options).events()
    assert last["choices"] == []
    assert shape(last["usage"]) == USAGE
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_comes_nowhere_where_it_is_refused(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, stream=True, stream_options={"include_usage": False})
    assert b"usage" not in reply.body
    assert lunar_sandbox.billed()[0]["usage_sent"] is False


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize(
    ("style", "places"),
    [("last", [-2]), ("closing", [-1]), ("none", []), ("every", "all that follow the opening")],
)
def test_a_header_puts_usage_anywhere(
    lunar_sandbox_factory: Any, dialect: str, style: str, places: Any
) -> None:
    sandbox = lunar_sandbox_factory(dialect=dialect)
    reply = chat(sandbox, stream=True, headers={"x-sandbox-usage": style})
    chunks = reply.events()[:-1]
    with_usage = [i for i, chunk in enumerate(chunks) if chunk.get("usage")]
    if style == "every":
        assert len(with_usage) == 8
        counts = [chunks[i]["usage"]["completion_tokens"] for i in with_usage]
        assert counts == [1, 2, 3, 4, 5, 6, 7, 7]
    elif style == "last":
        assert with_usage == [len(chunks) - 1]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    elif style == "closing":
        assert with_usage == [len(chunks) - 1]
        assert chunks[-1]["choices"] == []
    else:
        assert with_usage == []


def test_a_stream_is_the_plain_answer_in_pieces(lunar_sandbox: Sandbox) -> None:
    body = {"messages": [{"role": "user", "content": "Write a haiku"}]}
    plain = chat(lunar_sandbox, **body).json()
    streamed = chat(lunar_sandbox, stream=True, **body)
    assert streamed.text() == plain["choices"][0]["message"]["content"]
    usage = streamed.events()[-2]["usage"]
    assert {n: v for n, v in usage.items() if not n.endswith("_ms")} == {
        n: v for n, v in plain["usage"].items() if not n.endswith("_ms")
    }


def test_a_text_stream_has_text(lunar_sandbox: Sandbox) -> None:
    body = {"model": "gpt-4o", "prompt": "Hello", "stream": True}
    reply = post(lunar_sandbox, "/v1/completions", body)
    *chunks, done = reply.events()
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert reply.text() == "Hello! How can I help you today?"
    assert chunks[-1]["choices"] == [{"index": 0, "text": "", "finish_reason": "stop"}]
    assert shape(chunks[-1]["usage"]) == USAGE


def test_a_routed_stream_tells_its_route_on_its_first_chunk(lunar_sandbox: Sandbox) -> None:
    reply = post(lunar_sandbox, "/v1/router", {"messages": HELLO, "stream": True})
    first, *rest, _ = reply.events()
    assert shape(first["routing"]) == ROUTING
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert not any("routing" in chunk for chunk in rest)
    assert {chunk["model"] for chunk in rest} == {first["routing"]["selected_model"]}
    assert reply.headers["x-sandbox-router"] == "table"


def test_choices_come_by_turns_and_each_ends(lunar_sandbox: Sandbox) -> None:
    *chunks, _ = chat(lunar_sandbox, stream=True, n=2).events()
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices[:6]] == [0, 1, 0, 1, 0, 1]
    assert [c["index"] for c in choices if c["finish_reason"]] == [0, 1]


def test_tool_calls_come_as_openais_deltas(lunar_sandbox: Sandbox) -> None:
    tools = [
        tool("get_weather", city={"type": "string"}),
        tool("get_time", city={"type": "string"}),
    ]
    messages = [{"role": "user", "content": "Weather in Paris and time in New York?"}]
    *chunks, _ = chat(lunar_sandbox, stream=True, tools=tools, messages=messages).events()
    calls = [c["choices"][0]["delta"].get("tool_calls") for c in chunks]
    deltas = [call[0] for call in calls if call]

    opening = [delta for delta in deltas if "id" in delta]
    assert [(d["index"], d["type"], d["function"]) for d in opening] == [
        (0, "function", {"name": "get_weather", "arguments": ""}),
        (1, "function", {"name": "get_time", "arguments": ""}),
    ]
    arguments = {0: "", 1: ""}
    for delta in deltas:
        arguments[delta["index"]] += delta["function"]["arguments"]
    assert arguments == {0: '{"city": "Paris"}', 1: '{"city": "New York"}'}
    assert len(deltas) > 4  # in fragments
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_each_word_waits_for_the_delay_asked_for(lunar_sandbox: Sandbox) -> None:
    begun = time.monotonic()
    reply = chat(lunar_sandbox, stream=True, headers={"x-sandbox-delay": "0.05"})
    assert time.monotonic() - begun >= 7 * 0.05
    assert reply.text() == "Hello! How can I help you today?"


def test_a_bad_header_of_ours_is_refused(lunar_sandbox: Sandbox) -> None:
    for header in ("x-sandbox-delay", "x-sandbox-usage", "x-sandbox-fault"):
        assert chat(lunar_sandbox, stream=True, headers={header: "soon"}).status == 400
    for delay in ("-1", "nan", "inf"):
        assert chat(lunar_sandbox, stream=True, headers={"x-sandbox-delay": delay}).status == 400
