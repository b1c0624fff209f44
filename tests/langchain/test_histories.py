"""Histories that other vendors' models wrote, names and classes of every kind, and what depends on tools."""

from __future__ import annotations

import json
from datetime import date
from typing import Generic, TypeVar

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from pydantic import BaseModel

from langchain_lunar.messages import to_wire
from lunar_core import ConfigurationError, InternalServerError
from tests.faults_steps import DONE, USAGE, chunk, completion, reply, sse
from tests.langchain.provider_answers import STREAMED, answer, ask, function, plain

T = TypeVar("T")

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


def test_calls_that_name_no_tool_are_dropped_with_their_results():
    calls = [
        {"name": name, "args": {}, "id": name or "c1", "type": "tool_call"} for name in ("", "f")
    ]
    results = [ToolMessage("r", tool_call_id=call_id) for call_id in ("c1", "f")]
    assistant, result = to_wire([AIMessage("", tool_calls=calls), *results])
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["f"]
    assert result["tool_call_id"] == "f"


@pytest.mark.parametrize("call_id", [None, ""])
def test_calls_without_ids_are_matched_with_their_results(call_id):
    calls = [{"name": name, "args": {}, "id": call_id, "type": "tool_call"} for name in ("f", "g")]
    results = [ToolMessage(name, tool_call_id="") for name in ("f", "g")]
    assistant, *rest = to_wire([AIMessage("", tool_calls=calls), *results])
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(ids)
    assert [turn["tool_call_id"] for turn in rest] == ids


def test_an_invalid_call_is_sent_where_a_result_of_anthropics_form_answers_it():
    broken = {"name": "f", "args": "{", "id": "c1", "error": None, "type": "invalid_tool_call"}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "no JSON"}
    history = [AIMessage("", invalid_tool_calls=[broken]), HumanMessage([result])]
    assistant, tool = to_wire(history)
    assert [call["id"] for call in assistant["tool_calls"]] == [tool["tool_call_id"]] == ["c1"]
    assert "tool_calls" not in to_wire(history[:1])[0]


def test_a_result_of_a_later_turn_answers_no_invalid_call_of_the_same_id():
    broken = {"name": "f", "args": "{", "id": "c1", "error": None, "type": "invalid_tool_call"}
    called = {"name": "f", "args": {}, "id": "c1", "type": "tool_call"}
    later = [AIMessage("", tool_calls=[called]), ToolMessage("r", tool_call_id="c1")]
    first, _, second, result = to_wire(
        [AIMessage("", invalid_tool_calls=[broken]), HumanMessage("go on"), *later]
    )
    assert "tool_calls" not in first
    assert [call["id"] for call in second["tool_calls"]] == [result["tool_call_id"]]


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
