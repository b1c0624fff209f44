"""Messages both ways: LangChain's to the API's, and answers of the API to LangChain's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models._utils import _normalize_messages
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_lunar.answers import from_wire, to_result
from langchain_lunar.messages import to_wire
from langchain_lunar.metadata import usage_metadata
from lunar_core import ConfigurationError
from lunar_core.types import completions
from lunar_core.types.usage import Usage
from lunar_core.wire import answers
from tests.faults_steps import USAGE, completion

PNG = "iVBORw0KGgo="
CALL = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call_1", "type": "tool_call"}
WIRE_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
}


# Roles


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (HumanMessage("hi"), {"role": "user", "content": "hi"}),
        (HumanMessage("hi", name="ann"), {"role": "user", "content": "hi", "name": "ann"}),
        (SystemMessage("be brief"), {"role": "system", "content": "be brief"}),
        (
            SystemMessage("be brief", additional_kwargs={"__openai_role__": "developer"}),
            {"role": "developer", "content": "be brief"},
        ),
        (AIMessage("hello"), {"role": "assistant", "content": "hello"}),
        (AIMessageChunk("hello"), {"role": "assistant", "content": "hello"}),
        (ChatMessage("hi", role="critic"), {"role": "critic", "content": "hi"}),
        (
            FunctionMessage("3", name="add"),
            {"role": "function", "content": "3", "name": "add"},
        ),
        (
            ToolMessage("3", tool_call_id="call_1", name="add", status="error"),
            {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        ),
        (
            AIMessage("", tool_calls=[CALL]),
            {"role": "assistant", "content": "", "tool_calls": [WIRE_CALL]},
        ),
        (
            AIMessage("", additional_kwargs={"refusal": "I won't."}),
            {"role": "assistant", "content": "", "refusal": "I won't."},
        ),
        (
            AIMessage("", additional_kwargs={"function_call": WIRE_CALL["function"]}),
            {"role": "assistant", "content": "", "function_call": WIRE_CALL["function"]},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_message_has_its_role(message, expected):
    assert to_wire([message]) == [expected]


def test_a_call_whose_arguments_were_no_json_goes_back_as_the_model_wrote_it():
    broken = {"name": "add", "args": '{"a": ', "id": "call_1", "error": "no JSON"}
    result = ToolMessage("Error: no JSON.", tool_call_id="call_1")
    turn, _ = to_wire([AIMessage("", invalid_tool_calls=[broken]), result])
    assert turn["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": '}


def test_a_message_that_is_no_turn_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="RemoveMessage"):
        to_wire([RemoveMessage(id="1")])


def test_arguments_keep_their_letters():
    call = {**CALL, "args": {"city": "Zürich 東京"}}
    (turn,) = to_wire([AIMessage("", tool_calls=[call])])
    assert "Zürich 東京" in turn["tool_calls"][0]["function"]["arguments"]


# Blocks of content


IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
LINKED = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}
MP3 = {"type": "input_audio", "input_audio": {"data": PNG, "format": "mp3"}}


def pdf(name="file.pdf"):
    data = f"data:application/pdf;base64,{PNG}"
    return {"type": "file", "file": {"filename": name, "file_data": data}}


BLOCKS = {
    "a string": ("hi", {"type": "text", "text": "hi"}),
    "text": ({"type": "text", "text": "hi"}, {"type": "text", "text": "hi"}),
    "text of v1, with what belongs to the stream": (
        {"type": "text", "text": "hi", "index": 0, "id": "x", "annotations": []},
        {"type": "text", "text": "hi"},
    ),
    "text without a type": ({"text": "hi"}, {"type": "text", "text": "hi"}),
    "text to be cached": (
        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
    ),
    "plain text": (
        {"type": "text-plain", "text": "hi", "mime_type": "text/plain"},
        {"type": "text", "text": "hi"},
    ),
    "refusal": (
        {"type": "refusal", "refusal": "no"},
        {"type": "refusal", "refusal": "no"},
    ),
    "OpenAI image": (
        {**IMAGE, "image_url": {**IMAGE["image_url"], "detail": "low"}},
        {**IMAGE, "image_url": {**IMAGE["image_url"], "detail": "low"}},
    ),
    "OpenAI image as a string": (
        {"type": "image_url", "image_url": "https://x.example/a.png"},
        LINKED,
    ),
    "v1 image": ({"type": "image", "base64": PNG, "mime_type": "image/png"}, IMAGE),
    "v1 image by URL": ({"type": "image", "url": "https://x.example/a.png"}, LINKED),
    "v1 image by id": (
        {"type": "image", "file_id": "file-1"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ),
    "v1 image, detail": (
        {"type": "image", "url": "https://x.example/a.png", "extras": {"detail": "high"}},
        {"type": "image_url", "image_url": {**LINKED["image_url"], "detail": "high"}},
    ),
    "v0 image": (
        {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
        IMAGE,
    ),
    "v0 image by URL": (
        {"type": "image", "source_type": "url", "url": "https://x.example/a.png"},
        LINKED,
    ),
    "Anthropic image": (
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
        },
        IMAGE,
    ),
    "Anthropic image by URL": (
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        LINKED,
    ),
    "OpenAI audio": (AUDIO, AUDIO),
    "v1 audio": ({"type": "audio", "base64": PNG, "mime_type": "audio/wav"}, AUDIO),
    "v1 audio of another kind": (
        {"type": "audio", "base64": PNG, "mime_type": "audio/mpeg"},
        MP3,
    ),
    "v0 audio": (
        {"type": "audio", "source_type": "base64", "data": PNG, "mime_type": "audio/x-wav"},
        AUDIO,
    ),
    "OpenAI file": (pdf("a.pdf"), pdf("a.pdf")),
    "v1 file": ({"type": "file", "base64": PNG, "mime_type": "application/pdf"}, pdf()),
    "v1 file with a name": (
        {
            "type": "file",
            "base64": PNG,
            "mime_type": "application/pdf",
            "extras": {"filename": "a.pdf"},
        },
        pdf("a.pdf"),
    ),
    "v1 file by id": (
        {"type": "file", "file_id": "file-1"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ),
    "v0 file": (
        {
            "type": "file",
            "source_type": "base64",
            "data": PNG,
            "mime_type": "application/pdf",
            "filename": "a.pdf",
        },
        pdf("a.pdf"),
    ),
    "v0 file by id": (
        {"type": "file", "source_type": "id", "id": "file-1"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ),
    "v0 file of text": (
        {"type": "file", "source_type": "text", "url": "hi", "mime_type": "text/plain"},
        {"type": "text", "text": "hi"},
    ),
    "Anthropic document": (
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
        },
        pdf("a.pdf"),
    ),
    "Anthropic document of text": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        {"type": "text", "text": "hi"},
    ),
    "video": (
        {"type": "video", "base64": PNG, "mime_type": "video/mp4"},
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{PNG}"}},
    ),
    "something of a provider's own": (
        {"type": "non_standard", "value": {"type": "widget", "size": 3}},
        {"type": "widget", "size": 3},
    ),
    "something that nobody knows": (
        {"type": "widget", "size": 3},
        {"type": "widget", "size": 3},
    ),
}


@pytest.mark.parametrize("normalised", [False, True], ids=["as written", "as core hands it on"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_any_style_becomes_the_part_that_the_api_knows(name, normalised):
    block, part = BLOCKS[name]
    message = HumanMessage(content=["look:", block])
    (message,) = _normalize_messages([message]) if normalised else [message]
    assert to_wire([message]) == [
        {"role": "user", "content": [{"type": "text", "text": "look:"}, part]}
    ]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {}},
        {"type": "tool_call", "id": "call_1", "name": "add", "args": {}},
        {"type": "input_json_delta", "partial_json": "{"},
        {"type": "server_tool_call", "id": "1", "name": "search", "args": {}},
    ],
    ids=lambda block: block["type"],
)
def test_what_a_message_says_elsewhere_or_only_to_itself_is_not_sent(block):
    message = AIMessage(content=[{"type": "text", "text": "hi"}, block], tool_calls=[CALL])
    (turn,) = to_wire([message])
    assert turn["content"] == "hi"
    assert turn["tool_calls"] == [WIRE_CALL]


def test_text_alone_is_a_string_so_that_a_router_can_read_it():
    assert to_wire([HumanMessage([{"type": "text", "text": "hi"}])])[0]["content"] == "hi"


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"type": "audio", "url": "https://x.example/a.wav"}, "audio"),
        ({"type": "file", "url": "https://x.example/a.pdf"}, "file"),
        ({"type": "image"}, "image"),
    ],
    ids=["audio by link", "file by link", "image of nothing"],
)
def test_media_that_the_api_has_no_place_for_are_refused_by_name(block, named):
    with pytest.raises(ConfigurationError, match=named):
        to_wire([HumanMessage([block])])


def test_a_conversation_in_anthropics_style_becomes_turns_of_the_api():
    messages = [
        HumanMessage("What is 1 + 2?"),
        AIMessage([{"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1, "b": 2}}]),
        HumanMessage(
            [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "3"},
                {"type": "text", "text": "Well?"},
            ]
        ),
    ]
    assert to_wire(messages) == [
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [WIRE_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "user", "content": "Well?"},
    ]


def test_the_callers_messages_stay_as_they_are():
    message = HumanMessage([{"type": "image", "base64": PNG, "mime_type": "image/png"}])
    before = message.model_copy(deep=True)
    to_wire([message])
    assert message == before


# Answers


def answered(**message):
    return from_wire(completions.Message.model_validate({"role": "assistant", **message}))


def test_text_comes_back():
    assert answered(content="hi") == AIMessage("hi")


def test_tool_calls_come_back_with_their_arguments_read():
    message = answered(content=None, tool_calls=[WIRE_CALL])
    assert message.content == ""
    assert message.tool_calls == [CALL]


@pytest.mark.parametrize("text", ['{"a": ', "[1]", '"a"'], ids=["cut off", "a list", "a string"])
def test_arguments_that_are_no_object_are_an_invalid_call_and_no_error(text):
    call = {**WIRE_CALL, "function": {"name": "add", "arguments": text}}
    message = answered(content=None, tool_calls=[call])
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == text


def test_no_arguments_at_all_are_none():
    call = {**WIRE_CALL, "function": {"name": "now", "arguments": ""}}
    assert answered(content=None, tool_calls=[call]).tool_calls[0]["args"] == {}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_back_by_either_name(name):
    message = answered(content="4", **{name: "2 and 2"})
    assert message.additional_kwargs == {"reasoning_content": "2 and 2"}
    assert message.content_blocks[0] == {"type": "reasoning", "reasoning": "2 and 2"}


def test_a_refusal_is_a_content_block():
    result = to_result(read(completion(None, choices=[refused()])))
    message = result.generations[0].message
    assert message.content == ""
    assert message.content_blocks == [{"type": "refusal", "refusal": "I won't."}]


def test_what_the_service_says_beyond_that_is_kept():
    assert answered(content="hi", annotations=[{"url": "x"}]).additional_kwargs == {
        "annotations": [{"url": "x"}]
    }


def refused():
    message = {"role": "assistant", "content": None, "refusal": "I won't."}
    return {"index": 0, "message": message, "finish_reason": "stop"}


def read(body):
    return answers.read_chat(json.dumps(body).encode())


# Usage


def test_tokens_are_whole_numbers():
    usage = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15, total_cost_usd=0.1)
    assert usage_metadata(usage) == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def test_a_total_that_was_not_stated_is_the_sum():
    assert usage_metadata(Usage(prompt_tokens=10, completion_tokens=5))["total_tokens"] == 15


@pytest.mark.parametrize("usage", [None, Usage(), Usage(total_cost_usd=0.1)], ids=repr)
def test_tokens_that_nobody_counted_are_none_and_not_zero(usage):
    assert usage_metadata(usage) is None


DETAILS = [
    ({"prompt_tokens_details": {"cached_tokens": 4}}, "input", {"cache_read": 4}),
    ({"prompt_tokens_details": {"cached_tokens": 0}}, "input", {"cache_read": 0}),
    ({"prompt_tokens_details": {"audio_tokens": 3}}, "input", {"audio": 3}),
    ({"prompt_tokens_details": {"cache_write_tokens": 2}}, "input", {"cache_creation": 2}),
    ({"prompt_tokens_details": {"cache_creation_tokens": 2}}, "input", {"cache_creation": 2}),
    ({"cache_read_input_tokens": 4}, "input", {"cache_read": 4}),
    ({"cache_creation_input_tokens": 2}, "input", {"cache_creation": 2}),
    ({"completion_tokens_details": {"reasoning_tokens": 3}}, "output", {"reasoning": 3}),
    ({"completion_tokens_details": {"audio_tokens": 1}}, "output", {"audio": 1}),
]


@pytest.mark.parametrize(("stated", "side", "expected"), DETAILS, ids=str)
def test_details_of_the_count_are_told_where_the_provider_tells_them(stated, side, expected):
    usage = Usage.model_validate({"prompt_tokens": 10, "completion_tokens": 5, **stated})
    assert usage_metadata(usage)[f"{side}_token_details"] == expected


def test_langsmith_gets_the_cost_where_it_looks_for_it():
    usage = Usage.model_validate(USAGE)
    found = usage_metadata(usage, cost=True)
    assert found["total_cost"] == 0.000045
    assert (found["input_cost"], found["output_cost"]) == (0.000015, 0.00003)


def test_of_several_choices_the_first_alone_tells_usage_and_cost():
    choice = completion("hi")["choices"][0]
    result = to_result(read(completion(choices=[choice, {**choice, "index": 1}])))
    first, second = (generation.message for generation in result.generations)
    assert first.usage_metadata["total_tokens"] == 30
    assert first.response_metadata["total_cost_usd"] == 0.000045
    assert second.usage_metadata is None
    assert "total_cost_usd" not in second.response_metadata
    assert second.response_metadata["model_name"] == "gpt-4o-mini"


# There and back


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
calls = st.builds(
    lambda name, args, call_id: {"name": name, "args": args, "id": call_id, "type": "tool_call"},
    texts.filter(bool),
    st.dictionaries(texts, values, max_size=3),
    texts.filter(bool),
)


lists_of_calls = st.lists(calls, max_size=3, unique_by=lambda call: call["id"])


@given(st.builds(AIMessage, content=texts, tool_calls=lists_of_calls))
def test_a_message_that_was_sent_and_read_again_is_the_same(message):
    (turn,) = to_wire([message])
    assert from_wire(completions.Message.model_validate(turn)) == message


# Odd answers

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 2) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)


def odd(fields):
    return st.fixed_dictionaries(
        {}, optional={name: junk | value for name, value in fields.items()}
    )


functions = odd({"name": texts, "arguments": st.sampled_from(["{", "{}", "[]"])})
written = odd(
    {
        "role": st.just("assistant"),
        "content": texts,
        "tool_calls": st.lists(odd({"id": texts, "function": functions}), max_size=2),
        "reasoning": texts,
        "refusal": texts,
        "extra": junk,
    }
)
choices = odd({"index": st.integers(0, 2), "message": written, "finish_reason": st.just("stop")})
usages = odd({"prompt_tokens": st.integers(0, 9), "prompt_tokens_details": junk})
bodies = odd({"model": texts, "choices": st.lists(choices, max_size=2), "usage": usages})


@given(bodies)
def test_no_answer_however_odd_breaks_langchain(body):
    """What the core lets through is taken, and can be sent again."""
    try:
        answer = read(body)
    except ValueError:
        return
    for generation in to_result(answer).generations:
        to_wire([generation.message])
        json.dumps(generation.message.response_metadata)
        assert generation.message.content_blocks is not None
