"""What the chunks of a stream hold beside text adds up: tool calls, reasoning, refusals, and whatever is odd."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.tools import tool

import lunar_core
from langchain_lunar.answers import from_wire
from langchain_lunar.chunks import ChunkConverter
from langchain_lunar.messages import to_wire
from lunar_core.types.completions import CallInfo, ChatCompletion
from lunar_core.wire import events
from lunar_core.wire.deltas import Assembly
from lunar_core.wire.parsing import validate_leniently
from tests.faults_steps import DONE, chunk, sse


def delta(**fields):
    return {"index": 0, "delta": fields, "finish_reason": None}


# Tool calls, however the upstream cuts them


def piece(index=None, call_id=None, name=None, arguments=None):
    function = {"name": name, "arguments": arguments}
    given = {"index": index, "id": call_id, "type": "function" if call_id else None}
    told = {key: value for key, value in function.items() if value is not None}
    return {**{key: value for key, value in given.items() if value is not None}, "function": told}


HABITS = {
    "by index": [
        [piece(0, "c1", "add", "")],
        [piece(0, arguments='{"a": 1')],
        [piece(0, arguments="}")],
        [piece(1, "c2", "sub", "")],
        [piece(1, arguments='{"a": 2}')],
    ],
    "interleaved": [
        [piece(0, "c1", "add", ""), piece(1, "c2", "sub", "")],
        [piece(1, arguments='{"a": 2')],
        [piece(0, arguments='{"a": 1}')],
        [piece(1, arguments="}")],
    ],
    "id and name with each piece": [
        [piece(0, "c1", "add", '{"a"')],
        [piece(0, "c1", "add", ": 1}")],
        [piece(1, "c2", "sub", '{"a": 2}')],
    ],
    "every call number 0": [
        [piece(0, "c1", "add", '{"a": 1}')],
        [piece(0, "c2", "sub", '{"a": 2}')],
    ],
    "without index": [
        [piece(None, "c1", "add", '{"a":')],
        [piece(None, arguments=" 1}")],
        [piece(None, "c2", "sub", '{"a": 2}')],
    ],
    "whole, at once": [[piece(0, "c1", "add", '{"a": 1}'), piece(1, "c2", "sub", '{"a": 2}')]],
    "arguments as an object": [
        [piece(0, "c1", "add", {"a": 1})],
        [piece(1, "c2", "sub", {"a": 2})],
    ],
    "the name after the id": [
        [piece(0, "c1", arguments="")],
        [piece(0, name="add", arguments='{"a": 1}')],
        [piece(1, "c2", "sub", '{"a": 2}')],
    ],
}


@pytest.mark.parametrize("habit", HABITS)
def test_tool_calls_are_put_together_however_they_were_cut(scripted, fault_server, way, habit):
    events = [chunk(choices=[delta(tool_calls=pieces)]) for pieces in HABITS[habit]]
    fault_server.script(sse(*events, chunk(finish="tool_calls"), DONE))
    calls = way.streamed(scripted(), "hi").tool_calls
    assert [(call["id"], call["name"], call["args"]) for call in calls] == [
        ("c1", "add", {"a": 1}),
        ("c2", "sub", {"a": 2}),
    ]


def test_arguments_that_never_end_are_an_invalid_call(scripted, fault_server, way):
    begun = chunk(choices=[delta(tool_calls=[piece(0, "c1", "add", "[1, 2")])])
    fault_server.script(sse(begun, chunk(finish="length"), DONE))
    answer = way.streamed(scripted(), "hi")
    assert answer.invalid_tool_calls[0]["args"] == "[1, 2"


# Other parts


def test_reasoning_is_streamed_as_it_comes(chat, way):
    chunks = way.stream(chat("o4-mini"), "Why is the sky blue?")
    thoughts = [piece.additional_kwargs.get("reasoning_content") for piece in chunks]
    assert len([thought for thought in thoughts if thought]) > 2
    first, *rest = chunks
    blocks = first.__add__(rest).content_blocks
    assert [block["type"] for block in blocks] == ["reasoning", "text"]


def test_a_refusal_ends_as_a_content_block(scripted, fault_server, way):
    pieces = [chunk(choices=[delta(refusal="I ")]), chunk(choices=[delta(refusal="won't.")])]
    fault_server.script(sse(*pieces, chunk(finish="stop"), DONE))
    answer = way.streamed(scripted(), "hi")
    assert answer.content_blocks == [{"type": "refusal", "refusal": "I won't."}]


def test_log_probabilities_add_up(chat, way):
    answer = way.streamed(chat(logprobs=True), "Say hello to Ann")
    tokens = [entry["token"] for entry in answer.response_metadata["logprobs"]["content"]]
    assert "".join(tokens).strip() == answer.content


def test_what_else_a_message_may_have_is_kept_whatever_it_is(scripted, fault_server, way):
    pieces = [
        chunk(choices=[delta(content="Hi", score=0.5, notes=[{"n": 1}])]),
        chunk(choices=[delta(score=0.7, notes=[{"n": 2}])]),
    ]
    fault_server.script(sse(*pieces, chunk(finish="stop"), DONE))
    answer = way.streamed(scripted(), "hi")
    assert answer.additional_kwargs == {"score": 0.7, "notes": [{"n": 1}, {"n": 2}]}


def test_the_id_of_a_sound_that_each_chunk_repeats_is_one_id(scripted, fault_server, way):
    pieces = [
        chunk(choices=[delta(audio={"id": "audio_1", "data": data, "transcript": text})])
        for data, text in (("UklG", "Hel"), ("RiQA", "lo"))
    ]
    fault_server.script(sse(*pieces, chunk(finish="stop"), DONE))
    answer = way.streamed(scripted(), "hi")
    audio = {"id": "audio_1", "data": "UklGRiQA", "transcript": "Hello"}
    assert answer.additional_kwargs == {"audio": audio}


@pytest.mark.parametrize("name", ["o4-mini", "gpt-4o-mini"])
def test_content_blocks_of_the_first_version_are_whole(chat, way, name):
    @tool
    def get_weather(city: str) -> str:
        """Say what the weather is like."""

    model = chat(name, output_version="v1")
    text = way.streamed(model, "Say hello to Ann")
    called = way.streamed(model.bind_tools([get_weather], tool_choice="any"), "Weather in Rome?")
    assert [block["type"] for block in text.content][-1] == "text"
    assert text.text == "hello to Ann"
    blocks = [block for block in called.content if block["type"] == "tool_call"]
    assert blocks[0]["args"] == {"city": "Rome"}
    assert way.invoke(model, "Say hello to Ann").content[-1]["text"] == "hello to Ann"


# The converter by itself


def test_chunks_without_anything_to_say_are_not_handed_on():
    converter = ChunkConverter("call_1")
    opening = chunk(choices=[delta(role="assistant", content="")])
    assert converter.feed(opening) is None
    assert converter.feed(chunk(finish="stop")) is None
    *_, last = converter.last(CallInfo("call_1", "gpt-4o"))
    assert last.message.response_metadata["finish_reason"] == "stop"
    assert isinstance(last.message, AIMessageChunk)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 2) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "id", "text", "type"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def odd(fields):
    return st.fixed_dictionaries(
        {}, optional={name: junk | value for name, value in fields.items()}
    )


functions = odd({"name": st.just("add"), "arguments": st.sampled_from(["{", "}", "{}"])})
pieces = odd(
    {"index": st.integers(0, 2), "id": st.sampled_from(["c1", "c2"]), "function": functions}
)
deltas = odd(
    {
        "role": st.just("assistant"),
        "content": st.text(max_size=5),
        "tool_calls": st.lists(pieces, max_size=2),
        "reasoning": st.text(max_size=3),
        "refusal": st.text(max_size=3),
        "extra": junk,
    }
)
choices = odd(
    {
        "index": st.integers(0, 1),
        "delta": deltas,
        "finish_reason": st.sampled_from(["stop", "tool_calls"]),
        "logprobs": st.just({"content": [{"token": "a", "logprob": -0.1}]}),
    }
)
chunks = odd(
    {
        "id": st.just("x"),
        "model": st.just("m"),
        "provider": st.just("openai"),
        "choices": st.lists(choices, max_size=2),
        "usage": odd({"prompt_tokens": st.integers(0, 9), "total_cost_usd": st.floats(0, 1)}),
        "routing": odd({"selected_model": st.just("m"), "cluster_id": st.integers(0, 9)}),
    }
)


@given(st.lists(chunks, max_size=6))
def test_no_chunk_however_odd_breaks_langchain(stream):
    """What the core lets through is taken: it adds up, and goes back to the service."""
    converter, said = ChunkConverter("call_1"), []
    for event in stream:
        try:
            plain = events.plain_chunk(json.dumps(event).encode())
        except lunar_core.LunarError:
            continue
        piece = converter.feed(plain) if plain is not None else None
        said += [piece.message] if piece is not None else []
    said += [chunk.message for chunk in converter.last(CallInfo("call_1", "gpt-4o"))]
    first, *rest = said
    answer = message_chunk_to_message(first.__add__(rest))
    to_wire([answer])
    json.dumps(answer.response_metadata)


# What LangChain makes of a stream's chunks, and what the whole answer says


texts_of_arguments = st.sampled_from(
    ["", " ", "{}", "null", '{"a"', ": 1}", '{"a": 1}', "}", '{"a": "x', '"}', "[1]", "\\"]
)
odd_pieces = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["f", "g", "", None]),
                "arguments": texts_of_arguments | st.none() | st.just({"a": 1}),
            },
        )
    },
    optional={
        "index": st.sampled_from([0, 0, 1, "0", None]),
        "id": st.sampled_from(["a", "b", "", None, 3]),
    },
)


@settings(max_examples=400)
@given(
    st.lists(st.lists(odd_pieces, min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["tool_calls", "length", "stop", None]),
)
def test_however_odd_its_pieces_a_stream_has_the_calls_of_the_whole_answer(deltas, finish_reason):
    stream = [chunk(choices=[delta(tool_calls=pieces)]) for pieces in deltas]
    stream.append(chunk(finish=finish_reason))
    assembly, converter = Assembly(ChatCompletion), ChunkConverter("call_1")
    messages = []
    for event in copy.deepcopy(stream):
        assembly.add(event)
    for event in stream:
        converted = converter.feed(event)
        messages += [] if converted is None else [converted.message]
    messages += [last.message for last in converter.last(CallInfo("call_1"))]
    (choice,) = validate_leniently(ChatCompletion, assembly.value()).choices
    whole = from_wire(choice.message, choice.finish_reason)
    first, *rest = messages
    summed = first.__add__(rest)
    assert ids_and_arguments(summed.tool_calls) == ids_and_arguments(whole.tool_calls)
    invalid = sorted(call["id"] for call in summed.invalid_tool_calls)
    assert invalid == sorted(call["id"] for call in whole.invalid_tool_calls)


def ids_and_arguments(calls):
    return sorted((call["id"], call["name"], repr(call["args"])) for call in calls)
