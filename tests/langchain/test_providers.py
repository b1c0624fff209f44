"""What real providers send, and what programs that began with another class hold: read right, and sent back right."""

from __future__ import annotations

import json
import pickle
from datetime import date
from typing import Generic, TypeVar

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from langchain_lunar.messages import to_wire
from lunar_core import ConfigurationError, InternalServerError, LunarError
from tests.faults_steps import DONE, USAGE, chunk, completion, reply, sse

T = TypeVar("T")
STREAMED = pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])


def function(name, arguments="{}", call_id="c1", **fields):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **fields}


def plain(finish_reason="stop", **message):
    message = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return reply(json=completion(choices=[choice]))


def streamed(*deltas, finish_reason="stop"):
    pieces = [
        chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas
    ]
    return sse(*pieces, chunk(finish=finish_reason, usage=USAGE), DONE)


def answer(is_streamed, finish_reason="stop", **message):
    """The same message, whole or as a stream."""
    if not is_streamed:
        return plain(finish_reason, **message)
    calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls", ()))]
    deltas = [{name: value} for name, value in message.items()]
    return streamed(
        *deltas, *([{"tool_calls": calls}] if calls else ()), finish_reason=finish_reason
    )


def ask(way, model, messages, is_streamed):
    return way.streamed(model, messages) if is_streamed else way.invoke(model, messages)


# What was signed goes back (F3, F4)

SIGNATURE = {"google": {"thought_signature": "S"}}


def by_checkpoint(message):
    serde = JsonPlusSerializer()
    return serde.loads_typed(serde.dumps_typed(message))


TRAVELS = {
    "as it is": lambda message: message,
    "pickle": lambda message: pickle.loads(pickle.dumps(message)),
    "checkpoint": by_checkpoint,
    "dumpd": lambda message: load(dumpd(message), allowed_objects="messages"),
}


@STREAMED
@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("travel", TRAVELS)
def test_what_a_provider_signed_on_a_call_or_a_message_goes_back(
    scripted, fault_server, way, travel, is_streamed
):
    call = function("f", extra_content=SIGNATURE)
    signed = {"reasoning_details": [{"data": "D"}], "provider_specific_fields": {"a": 1}}
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=[call], **signed), plain(content="k")
    )
    model = scripted()
    message = TRAVELS[travel](ask(way, model, "x", is_streamed))
    way.invoke(model, [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    turn = fault_server.bodies[1]["messages"][1]
    assert turn["tool_calls"] == [call]
    assert {name: turn[name] for name in signed} == signed


def test_a_field_of_the_function_goes_back_too(scripted, fault_server, way):
    call = function("f")
    call["function"]["signature"] = "S"
    fault_server.script(plain("tool_calls", tool_calls=[call]), plain(content="k"))
    message = way.invoke(scripted(), "x")
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    assert fault_server.bodies[1]["messages"][1]["tool_calls"] == [call]


def test_it_goes_to_no_other_model(scripted, fault_server, way):
    call = function("f", extra_content=SIGNATURE)
    fault_server.script(
        plain("tool_calls", tool_calls=[call], reasoning_content="hm"),
        reply(503, json={"detail": "no"}),
        plain(content="k"),
        plain(content="k"),
    )
    message = way.invoke(scripted(), "x")
    talk = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(scripted(fallbacks=["mistral-small"]), talk)
    way.invoke(scripted("gpt-4o"), talk)
    _, writer, fallback, other = (body["messages"] for body in fault_server.bodies)
    assert writer[1]["tool_calls"][0]["extra_content"] == SIGNATURE
    assert writer[1]["reasoning_content"] == "hm"
    for turns in (fallback, other):
        assert turns[1] == {"role": "assistant", "content": "", "tool_calls": [function("f")]}


@pytest.mark.parametrize(
    ("replay_reasoning", "in_loop", "later"),
    [("tools", True, False), ("never", False, False), ("always", True, True)],
)
def test_reasoning_goes_back_in_the_tool_loop_that_is_answered(
    scripted, fault_server, way, replay_reasoning, in_loop, later
):
    fault_server.script(
        plain("tool_calls", tool_calls=[function("f")], reasoning_content="think"),
        plain(content="k"),
        plain(content="k"),
    )
    model = scripted(replay_reasoning=replay_reasoning)
    message = way.invoke(model, "x")
    loop = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(model, loop)
    way.invoke(model, [*loop, AIMessage("k"), HumanMessage("more")])
    first, second = (body["messages"][1] for body in fault_server.bodies[1:])
    assert (first.get("reasoning_content") == "think") is in_loop
    assert (second.get("reasoning_content") == "think") is later


@STREAMED
@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize(
    ("spoken", "sent"),
    [
        ({"reasoning": "think"}, {"reasoning"}),
        ({"reasoning_content": "think"}, {"reasoning_content"}),
        ({"content": [{"type": "thinking", "thinking": [{"text": "think"}]}]}, set()),
    ],
    ids=["vLLM", "DeepSeek", "Mistral"],
)
def test_reasoning_goes_back_under_the_name_that_it_came_by(
    scripted, fault_server, way, is_streamed, travel, spoken, sent
):
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=[function("f")], **spoken),
        plain(content="k"),
        plain(content="k"),
    )
    message = TRAVELS[travel](ask(way, scripted(), "x", is_streamed))
    assert message.additional_kwargs["reasoning_content"] == "think"
    loop = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(scripted(replay_reasoning="always"), loop)
    way.invoke(scripted(), loop)
    for body in fault_server.bodies[1:]:
        turn = body["messages"][1]
        assert turn.keys() & {"reasoning", "reasoning_content", "thinking"} == sent
        assert all(turn[name] == "think" for name in sent)
        assert turn["content"] == ""


def test_reasoning_that_came_by_both_names_is_shown_and_sent_back_once(scripted, fault_server, way):
    both = {"reasoning": "think", "reasoning_content": "think"}
    call = {"index": 0, **function("f")}
    fault_server.script(streamed(both, {"tool_calls": [call]}), plain(content="k"))
    message = way.streamed(scripted(), "x")
    assert message.additional_kwargs["reasoning_content"] == "think"
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    turn = fault_server.bodies[1]["messages"][1]
    assert turn["reasoning_content"] == "think"
    assert "reasoning" not in turn


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("thinking_blocks", "thinking", "thinking"),
        ("reasoning_details", "reasoning.text", "text"),
    ],
    ids=["LiteLLM", "OpenRouter"],
)
def test_what_was_signed_in_pieces_goes_back_whole(scripted, fault_server, way, name, kind, text):
    fault_server.script(
        streamed(
            {name: [{"type": kind, text: "h"}]},
            {name: [{"type": kind, text: "m"}]},
            {name: [{"type": kind, "signature": "S"}]},
            {name: [{"type": kind, text: "and"}]},
            {"tool_calls": [{"index": 0, **function("f")}]},
            finish_reason="tool_calls",
        ),
        plain(content="k"),
    )
    message = way.streamed(scripted(), "x")
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    whole = [{"type": kind, text: "hm", "signature": "S"}, {"type": kind, text: "and"}]
    assert fault_server.bodies[1]["messages"][1][name] == whole


# A 200 that tells of a failure (F5, F11, F12)

FAILURE = {"code": 502, "message": "upstream died"}


@STREAMED
def test_a_choice_that_failed_is_fallen_back_from(scripted, fault_server, way, is_streamed):
    choice = {"index": 0, "finish_reason": "error", "error": FAILURE}
    failed = (
        sse(chunk(choices=[{**choice, "delta": {"content": ""}}]), DONE)
        if is_streamed
        else reply(
            json=completion(choices=[{**choice, "message": {"role": "assistant", "content": ""}}])
        )
    )
    fault_server.script(failed, answer(is_streamed, content="fine"))
    assert ask(way, scripted(fallbacks=["n"]), "x", is_streamed).content == "fine"
    assert len(fault_server.bodies) == 2


@STREAMED
def test_an_answer_beside_an_error_is_no_answer(scripted, fault_server, way, is_streamed):
    fields = {"error": FAILURE}
    failed = (
        sse(chunk("half an ans"), {**chunk(finish="error"), **fields}, DONE)
        if is_streamed
        else reply(json={**completion("half an ans"), **fields})
    )
    fault_server.script(failed)
    with pytest.raises(LunarError) as caught:
        ask(way, scripted(), "x", is_streamed)
    assert caught.value.partial.choices[0].message.content == "half an ans"
    assert caught.value.is_retryable


@STREAMED
def test_a_blocked_answer_is_empty_and_keeps_its_cost(scripted, fault_server, way, is_streamed):
    choice = {"index": 0, "finish_reason": "content_filter"}
    blocked = (
        sse(chunk(choices=[choice], usage=USAGE), DONE)
        if is_streamed
        else reply(json=completion(choices=[choice]))
    )
    fault_server.script(blocked)
    message = ask(way, scripted(), "x", is_streamed)
    assert message.content == ""
    assert message.response_metadata["finish_reason"] == "content_filter"
    assert message.response_metadata["total_cost_usd"] == USAGE["total_cost_usd"]


@STREAMED
def test_a_custom_call_spoils_nothing_and_goes_back_as_it_came(
    scripted, fault_server, way, is_streamed
):
    custom = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": 'print("hi")'}}
    calls = [custom, function("f", '{"x": 1}', "c2")]
    fault_server.script(
        answer(is_streamed, "tool_calls", content="hi", tool_calls=calls), plain(content="k")
    )
    message = ask(way, scripted(), "x", is_streamed)
    assert message.content == "hi"
    assert [(c["name"], c["args"], c["id"]) for c in message.tool_calls] == [
        ("run", {"__arg1": 'print("hi")'}, "c1"),
        ("f", {"x": 1}, "c2"),
    ]
    results = [ToolMessage("r", tool_call_id=call_id) for call_id in ("c1", "c2")]
    way.invoke(scripted(), [HumanMessage("x"), message, *results])
    assert fault_server.bodies[1]["messages"][1]["tool_calls"] == calls


# Tool calls of odd habits (F6, F7): the rule is the core's, and tested there with every habit


@STREAMED
@pytest.mark.parametrize("call_id", [None, ""])
def test_calls_without_ids_run_and_are_answered(scripted, fault_server, way, call_id, is_streamed):
    @tool
    def f(x: int) -> str:
        """Do it."""
        return f"did {x}"

    calls = [function("f", json.dumps({"x": n}), call_id) for n in (1, 2)]
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=calls), answer(is_streamed, content="k")
    )
    agent = create_agent(scripted(streaming=is_streamed), [f])
    way.invoke(agent, {"messages": [("user", "x")]})
    _, assistant, *results = fault_server.bodies[1]["messages"]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 2
    assert [(r["tool_call_id"], r["content"]) for r in results] == [
        (ids[0], "did 1"),
        (ids[1], "did 2"),
    ]


STREAMS = {
    "two calls under one number": (
        [{"tool_calls": [{"index": 0, **function("f", json.dumps({"p": p}), "")}]} for p in "ab"],
        [("f", {"p": "a"}), ("f", {"p": "b"})],
    ),
    "two calls in one delta, without ids": (
        [{"tool_calls": [{"index": 0, **function("f", json.dumps({"p": p}), None)} for p in "ab"]}],
        [("f", {"p": "a"}), ("f", {"p": "b"})],
    ),
    "a name in pieces": (
        [
            {"tool_calls": [{"index": 0, **function("get_", "")}]},
            {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": "{}"}}]},
        ],
        [("get_weather", {})],
    ),
    "arguments before the real ones": (
        [
            {"tool_calls": [{"index": 0, **function("f", "{}")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}]},
        ],
        [("f", {"x": 1})],
    ),
    "an id that comes late": (
        [
            {"tool_calls": [{"index": 0, **function("f", "", None)}]},
            {"tool_calls": [{"index": 0, "id": "late", "function": {"arguments": "{}"}}]},
        ],
        [("f", {})],
    ),
}


@pytest.mark.parametrize("habit", STREAMS)
def test_streamed_calls_are_whole_whatever_the_habit(scripted, fault_server, way, habit):
    deltas, calls = STREAMS[habit]
    fault_server.script(streamed(*deltas, finish_reason="tool_calls"))
    message = way.streamed(scripted(), "x")
    assert [(call["name"], call["args"]) for call in message.tool_calls] == calls
    assert len({call["id"] for call in message.tool_calls}) == len(calls)


# Histories from elsewhere (F8, F15, F16, F13)

RECORDS = [
    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
    {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
    {"type": "mcp_tool_use", "id": "m1", "name": "x", "input": {}},
    {"type": "mcp_tool_result", "tool_use_id": "m1", "content": []},
    {"type": "code_execution_tool_result", "content": {}},
    {"type": "web_search_call", "id": "w1"},
    {"type": "file_search_call", "id": "f1"},
    {"type": "code_interpreter_call", "id": "i1"},
    {"type": "image_generation_call", "id": "g1", "result": "…"},
    {"type": "custom_tool_call", "id": "t1", "name": "x", "input": "1"},
    {"type": "tool_search_call", "id": "t2"},
    {"type": "tool_search_output", "tools": []},
    {"type": "compaction", "content": "what was said before"},
    {"type": "executable_code", "executable_code": "1"},
    {"type": "code_execution_result", "code_execution_result": "1"},
    {"type": "function_call_signature", "signature": "S"},
    {"type": "image", "base64": "eA==", "mime_type": "image/png"},
    {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
    {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
    {"type": "non_standard", "value": {"type": "server_tool_use", "id": "s1"}},
]
FOREIGN = [
    {"type": "media", "mime_type": "image/png", "data": "eA=="},
    {"type": "input_text", "text": "hi"},
    {"type": "input_image", "image_url": "https://x.example/a.png"},
    {"type": "input_file", "file_id": "f1"},
    {"type": "server_tool_use", "id": "s1"},
    {"image": {"format": "png", "source": {"bytes": "eA=="}}},
]


@pytest.mark.parametrize(
    "block", [*RECORDS, *FOREIGN], ids=lambda block: block.get("type", "Bedrock")
)
def test_records_of_a_vendors_server_are_left_out_of_the_assistants_turn(block):
    message = AIMessage([block, {"type": "text", "text": "found"}])
    assert to_wire([message]) == [{"role": "assistant", "content": "found"}]


def test_text_under_the_name_of_openais_responses_is_text():
    said = [{"type": "output_text", "text": text, "annotations": []} for text in ("a", "b")]
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert to_wire([AIMessage(said[:1]), AIMessage(said)]) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": texts},
    ]


@pytest.mark.parametrize("block", FOREIGN, ids=lambda block: block.get("type", "Bedrock"))
@pytest.mark.parametrize("kind", [HumanMessage, SystemMessage])
def test_a_block_that_cannot_be_carried_is_refused_with_its_place(
    scripted, fault_server, way, block, kind
):
    name = block.get("type", "image")
    with pytest.raises(ConfigurationError, match=rf"^messages\[1\]: .*{name}"):
        way.invoke(scripted(), [HumanMessage("hi"), kind([block])])
    assert fault_server.bodies == []


def test_a_block_that_no_vendors_history_holds_goes_through():
    block = {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}}
    assert to_wire([HumanMessage([block])])[0]["content"] == [block]


def test_invalid_calls_without_id_or_name_are_dropped_with_their_results():
    broken = [
        {"name": None, "args": None, "id": None, "error": None, "type": "invalid_tool_call"},
        {"name": None, "args": "{", "id": "c1", "error": None, "type": "invalid_tool_call"},
        {"name": "f", "args": "{", "id": "c2", "error": None, "type": "invalid_tool_call"},
    ]
    results = [ToolMessage(text, tool_call_id=text) for text in ("", "c1", "c2")]
    assistant, *rest = to_wire([AIMessage("", invalid_tool_calls=broken), *results])
    assert [call["id"] for call in assistant["tool_calls"]] == ["c2"]
    assert [turn["tool_call_id"] for turn in rest] == ["c2"]


class Point(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (date(2026, 1, 1), "2026-01-01"),
        ({1}, [1]),
        (b"hi", "hi"),
        (Point(x=1), {"x": 1}),
        (float("nan"), None),
        ("caf\udce9", "caf\ufffd"),
    ],
    ids=repr,
)
def test_arguments_are_written_as_pydantic_writes_json(value, written):
    call = {"name": "f", "args": {"v": value}, "id": "c1", "type": "tool_call"}
    (turn,) = to_wire([AIMessage.model_construct(content="", tool_calls=[call], type="ai")])
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {"v": written}


def test_arguments_that_json_cannot_carry_are_refused_with_their_place():
    call = {"name": "f", "args": {"v": object()}, "id": "c1", "type": "tool_call"}
    with pytest.raises(ConfigurationError, match=r"^messages\[1\]: tool call f: "):
        to_wire([HumanMessage("x"), AIMessage("", tool_calls=[call])])


def test_a_file_name_of_an_old_system_does_not_end_an_agent(scripted, fault_server, way):
    def name_of_file() -> str:
        """Name a file."""
        return "caf\udce9.txt"

    fault_server.script(
        plain("tool_calls", tool_calls=[function("name_of_file")]), plain(content="k")
    )
    state = way.invoke(create_agent(scripted(), [name_of_file]), {"messages": [("user", "x")]})
    assert state["messages"][-1].content == "k"
    assert fault_server.bodies[1]["messages"][2]["content"] == "caf\ufffd.txt"


# Names (F9), what depends on tools (F10), classes as formats (F14)


class Box(BaseModel, Generic[T]):
    """A box."""

    value: T


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize(
    "schema",
    [
        Box[int],
        {"title": "My answer!", "type": "object", "properties": {"value": {"type": "integer"}}},
        {"type": "object", "properties": {"value": {"type": "integer"}}},
    ],
    ids=["a generic class", "a title", "no title"],
)
def test_names_of_schemas_are_made_fit(chat, way, method, schema):
    structured = chat().with_structured_output(schema, method=method)
    assert dict(way.invoke(structured, "value is 3")) == {"value": 3}
    assert dict(way.stream(structured, "value is 3")[-1]) == {"value": 3}


@STREAMED
def test_tools_are_called_under_their_own_names(scripted, fault_server, way, is_streamed):
    tools = [
        StructuredTool.from_function(lambda x: x, name=name, description=name, args_schema=Point)
        for name in ("files.read", "files_read")
    ]
    sent = ("files_read_2", "files_read")
    calls = [function(name, '{"x": 1}', name) for name in sent]
    fault_server.script(answer(is_streamed, "tool_calls", tool_calls=calls), plain(content="k"))
    model = scripted().bind_tools(tools, tool_choice="files.read")
    message = ask(way, model, "x", is_streamed)
    assert [call["name"] for call in message.tool_calls] == ["files.read", "files_read"]
    results = [ToolMessage("r", tool_call_id=call_id) for call_id in sent]
    way.invoke(scripted().bind_tools(tools), [HumanMessage("x"), message, *results])
    first, second = fault_server.bodies
    assert [t["function"]["name"] for t in first["tools"]] == list(sent)
    assert first["tool_choice"]["function"]["name"] == "files_read_2"
    assert [c["function"]["name"] for c in second["messages"][1]["tool_calls"]] == list(sent)


@pytest.mark.parametrize("given", ["bound", "model_kwargs"])
def test_what_depends_on_tools_is_not_sent_without_any(scripted, fault_server, way, given):
    fault_server.script(plain(content="k"))
    options = {"parallel_tool_calls": False}
    model = (
        scripted().bind_tools([], tool_choice="auto", **options)
        if given == "bound"
        else scripted(model_kwargs=options)
    )
    way.invoke(model, "x")
    assert not fault_server.bodies[0].keys() & {"tools", "tool_choice", "parallel_tool_calls"}


@STREAMED
@pytest.mark.parametrize("given", ["bind", "bind_tools"])
def test_a_class_as_response_format_is_what_the_answer_is_parsed_into(
    scripted, fault_server, way, given, is_streamed
):
    fault_server.script(answer(is_streamed, content='{"x": 3}'))
    model = (
        scripted().bind(response_format=Point)
        if given == "bind"
        else scripted().bind_tools([Box[int]], response_format=Point, strict=True)
    )
    message = ask(way, model, "x", is_streamed)
    assert message.additional_kwargs["parsed"] == Point(x=3)
    sent = fault_server.bodies[0]["response_format"]["json_schema"]
    assert sent["name"] == "Point"
    assert sent.get("strict") == (True if given == "bind_tools" else None)


# Small ones (F17)


def test_the_first_choice_is_the_one_with_the_lowest_number(scripted, fault_server, way):
    choices = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for n, text in ((1, "second"), (0, "first"))
    ]
    fault_server.script(reply(json=completion(choices=choices)))
    assert way.invoke(scripted(n=2), "x").content == "first"


@pytest.mark.parametrize("name", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_tokens_from_a_providers_cache_are_counted_by_any_name(scripted, fault_server, way, name):
    fault_server.script(reply(json=completion(usage={**USAGE, name: 7})))
    assert way.invoke(scripted(), "x").usage_metadata["input_token_details"] == {"cache_read": 7}


@STREAMED
def test_log_probabilities_can_be_written_as_json(scripted, fault_server, way, is_streamed):
    logprobs = '{"content": [{"token": "a", "logprob": -Infinity}]}'
    choice = {"index": 0, "finish_reason": "stop", "logprobs": "LOGPROBS"}
    body = (
        chunk(choices=[{**choice, "delta": {"content": "a"}}])
        if is_streamed
        else completion(choices=[{**choice, "message": {"role": "assistant", "content": "a"}}])
    )
    text = json.dumps(body).replace('"LOGPROBS"', logprobs)
    fault_server.script(
        sse(f"data: {text}\n\n", DONE)
        if is_streamed
        else reply(body=text, headers=["content-type: application/json"])
    )
    message = ask(way, scripted(logprobs=True), "x", is_streamed)
    json.dumps(message.response_metadata, allow_nan=False)
    assert message.response_metadata["logprobs"]["content"][0]["logprob"] == -9999.0


def test_a_mime_type_with_parameters_names_its_format():
    block = {"type": "audio", "base64": "eA==", "mime_type": "audio/webm;codecs=opus"}
    (part,) = to_wire([HumanMessage([block])])[0]["content"]
    assert part["input_audio"]["format"] == "webm"


def test_media_that_could_not_be_sent_are_counted_all_the_same(scripted):
    link = {"type": "audio", "url": "https://x.example/a.wav"}
    model = scripted()
    with_link = model.get_num_tokens_from_messages([HumanMessage([link])])
    assert with_link > model.get_num_tokens_from_messages([HumanMessage("")])


def test_an_error_of_the_service_is_what_it_was(scripted, fault_server, way):
    fault_server.script(reply(503, json={"detail": "no"}))
    with pytest.raises(InternalServerError):
        way.invoke(scripted(), "x")
