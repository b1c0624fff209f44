"""What was cut off is never handed out as whole, and no tool runs with half its arguments (F2)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.exceptions import ModelError, OutputParserException
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_lunar import LunarCostCallbackHandler
from langchain_lunar.chunks import ChunkConverter
from langchain_lunar.incomplete_calls import remove_wrong_bracket
from lunar_core import OutputTruncatedError, ToolChoiceIgnoredError
from lunar_core.types.completions import CallInfo
from tests.faults_steps import DONE, chunk, completion, reply, sse


class Items(BaseModel):
    """Some items."""

    items: list[str]


class ItemsDict(TypedDict):
    """Some items."""

    items: list[str]


HALF = '{"items": ["a", "b'
WHOLE = '{"items": ["a", "b"]}'


def function(name, arguments, call_id="c1", **fields):
    call = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": call, **fields}


def plain(finish_reason, **message):
    message = {"role": "assistant", "content": None, **message}
    return reply(
        json=completion(choices=[{"index": 0, "finish_reason": finish_reason, "message": message}])
    )


def streamed(finish_reason, *, content=None, tool_calls=()):
    pieces = [chunk(content)] if content else []
    calls = [{"index": place, **call} for place, call in enumerate(tool_calls)]
    if calls:
        choice = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}
        pieces.append(chunk(choices=[choice]))
    return sse(*pieces, chunk(finish=finish_reason), DONE)


def answer(is_streamed, finish_reason, **message):
    return (streamed if is_streamed else plain)(finish_reason, **message)


STREAMED = pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
SCHEMAS = pytest.mark.parametrize(
    "schema", [Items, ItemsDict, Items.model_json_schema()], ids=["class", "TypedDict", "JSON"]
)


def ask(way, model, is_streamed):
    return way.stream(model, "hi")[-1] if is_streamed else way.invoke(model, "hi")


@STREAMED
@SCHEMAS
@pytest.mark.parametrize("method", ["json_schema", "json_mode", "prompt"])
def test_an_object_that_was_cut_off_is_an_error(
    scripted, fault_server, way, schema, method, is_streamed
):
    fault_server.script(answer(is_streamed, "length", content=HALF))
    model = scripted(max_tokens=9).with_structured_output(schema, method=method)
    with pytest.raises(OutputTruncatedError, match="max_tokens=9") as caught:
        ask(way, model, is_streamed)
    error = caught.value
    assert isinstance(error, (OutputParserException, ModelError))
    assert isinstance(error, OutputParserException)
    assert (error.output, error.finish_reason, error.token_limit) == (HALF, "length", 9)
    assert error.partial.choices[0].message.content == HALF
    assert not error.is_retryable


@STREAMED
@SCHEMAS
@pytest.mark.parametrize("finish_reason", ["length", "tool_calls", "stop"])
def test_so_are_the_arguments_of_a_forced_call(
    scripted, fault_server, way, schema, finish_reason, is_streamed
):
    name = "ItemsDict" if schema is ItemsDict else "Items"
    calls = [function(name, HALF)]
    fault_server.script(answer(is_streamed, finish_reason, tool_calls=calls))
    with pytest.raises(OutputTruncatedError) as caught:
        ask(way, scripted().with_structured_output(schema), is_streamed)
    assert isinstance(caught.value, OutputParserException)
    assert caught.value.finish_reason == finish_reason


BESIDE_RAW = {
    "an object that was cut off": (
        "json_schema",
        "length",
        {"content": HALF},
        OutputTruncatedError,
    ),
    "arguments that were cut off": (
        "function_calling",
        "length",
        {"tool_calls": [function("Items", HALF)]},
        OutputTruncatedError,
    ),
    "no call": ("function_calling", "stop", {"content": "Prose."}, ToolChoiceIgnoredError),
    "no JSON": ("json_schema", "stop", {"content": "Prose."}, OutputParserException),
}


@STREAMED
@pytest.mark.parametrize(
    ("method", "finish_reason", "message", "error"), BESIDE_RAW.values(), ids=BESIDE_RAW
)
def test_with_include_raw_the_error_stands_beside_the_answer(
    scripted, fault_server, way, method, finish_reason, message, error, is_streamed
):
    fault_server.script(answer(is_streamed, finish_reason, **message))
    model = scripted().with_structured_output(Items, method=method, include_raw=True)
    pieces = way.stream(model, "hi") if is_streamed else [way.invoke(model, "hi")]
    result = {name: value for piece in pieces for name, value in piece.items()}
    assert result["parsed"] is None
    assert isinstance(result["parsing_error"], error)
    assert result["raw"].response_metadata["finish_reason"] == finish_reason


@STREAMED
@pytest.mark.parametrize("finish_reason", ["length", "tool_calls", None])
@pytest.mark.parametrize(
    "arguments",
    ['{"path": "/home/u', '{"path": "/home/u\\', '{"paths": ["/a"', "{", '{"a": {"b": [1, {"c": "'],
)
def test_a_tool_call_that_was_cut_off_is_invalid(
    scripted, fault_server, way, finish_reason, arguments, is_streamed
):
    fault_server.script(answer(is_streamed, finish_reason, tool_calls=[function("rm", arguments)]))
    model = scripted()
    message = way.streamed(model, "hi") if is_streamed else way.invoke(model, "hi")
    assert message.tool_calls == []
    (call,) = message.invalid_tool_calls
    assert (call["name"], call["id"]) == ("rm", "c1")
    assert call["args"].startswith(arguments)


@STREAMED
@pytest.mark.parametrize("finish_reason", ["length", "MAX_TOKENS", "max_tokens", "model_length"])
def test_under_the_token_limit_a_call_without_arguments_is_cut_off_too(
    scripted, fault_server, way, is_streamed, finish_reason
):
    fault_server.script(answer(is_streamed, finish_reason, tool_calls=[function("rm", "")]))
    model = scripted()
    message = way.streamed(model, "hi") if is_streamed else way.invoke(model, "hi")
    assert (message.tool_calls, len(message.invalid_tool_calls)) == ([], 1)


@STREAMED
def test_a_whole_call_beside_a_half_one_stays_valid(scripted, fault_server, way, is_streamed):
    calls = [function("a", '{"x": 1}', "c1"), function("b", '{"x": "', "c2")]
    fault_server.script(answer(is_streamed, "length", tool_calls=calls))
    message = way.streamed(scripted(), "hi") if is_streamed else way.invoke(scripted(), "hi")
    assert [call["id"] for call in message.tool_calls] == ["c1"]
    assert [call["id"] for call in message.invalid_tool_calls] == ["c2"]


def custom(text, call_id="c1"):
    return {"id": call_id, "type": "custom", "custom": {"name": "run", "input": text}}


@STREAMED
@pytest.mark.parametrize("text", ["rm -rf /home/", '{"path": "/home/', '{"path": "/"}', ""])
def test_the_free_text_of_a_custom_call_is_cut_off_by_the_token_limit_too(
    scripted, fault_server, way, is_streamed, text
):
    calls = [custom("ls"), custom(text, "c2")]
    fault_server.script(answer(is_streamed, "length", tool_calls=calls), plain("stop", content="k"))
    message = way.streamed(scripted(), "hi") if is_streamed else way.invoke(scripted(), "hi")
    assert [call["id"] for call in message.tool_calls] == ["c1"]
    (call,) = message.invalid_tool_calls
    assert (call["name"], call["args"].startswith(text)) == ("run", True)
    results = [ToolMessage("r", tool_call_id=call_id) for call_id in ("c1", "c2")]
    way.invoke(scripted(), [HumanMessage("hi"), message, *results])
    assert fault_server.bodies[1]["messages"][1]["tool_calls"] == calls


@STREAMED
@pytest.mark.parametrize("arguments", ["", "{}", '{"x": 1}', '{"x": '])
def test_a_call_that_names_no_tool_is_invalid(scripted, fault_server, way, is_streamed, arguments):
    calls = [function("f", "{}"), function("", arguments, "c2")]
    fault_server.script(answer(is_streamed, "tool_calls", tool_calls=calls))
    message = way.streamed(scripted(), "hi") if is_streamed else way.invoke(scripted(), "hi")
    assert [call["id"] for call in message.tool_calls] == ["c1"]
    assert [call["id"] for call in message.invalid_tool_calls] == ["c2"]


@STREAMED
def test_a_conversation_goes_on_after_a_call_that_was_cut_off(
    scripted, fault_server, way, is_streamed
):
    half = answer(is_streamed, "length", tool_calls=[function("rm", '{"path": "/home/u')])
    fault_server.script(half, plain("stop", content="k"))
    message = way.streamed(scripted(), "hi") if is_streamed else way.invoke(scripted(), "hi")
    way.invoke(scripted(), [HumanMessage("hi"), message, HumanMessage("go on")])
    # Services refuse a call without a result, and nothing ran on this one.
    assert fault_server.bodies[1]["messages"][1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("streaming", [False, True])
def test_an_agents_tool_does_not_run_with_half_its_arguments(
    scripted, fault_server, way, streaming
):
    ran = []

    def rm(path: str = "/") -> str:
        """Remove a path."""
        ran.append(path)
        return "removed"

    fault_server.script(
        answer(streaming, "length", tool_calls=[function("rm", '{"path": "/home/u')])
    )
    agent = create_agent(scripted(streaming=streaming), [rm])
    state = way.invoke(agent, {"messages": [("user", "clean up")]})
    assert ran == []
    assert state["messages"][-1].invalid_tool_calls


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=4), st.data())
def test_wherever_arguments_are_cut_langchain_finds_the_call_invalid(arguments, data):
    text = json.dumps(arguments)
    half = text[: data.draw(st.integers(1, len(text) - 1))]
    converter = ChunkConverter("call_1")
    calls = [{"index": 0, **function("f", half)}]
    first = converter.feed({"choices": [{"delta": {"tool_calls": calls}}]})
    message = first.message + [chunk.message for chunk in converter.last(CallInfo("call_1"))]
    assert isinstance(message, AIMessageChunk)
    assert (message.tool_calls, len(message.invalid_tool_calls)) == ([], 1)
    came = remove_wrong_bracket(message.invalid_tool_calls[0]["args"])
    assert half.startswith(came)
    assert len(half) - len(came) <= 2  # a quote may be the text's own or the bracket's


def test_partial_objects_stream_until_the_end_says_that_they_are_whole(scripted, fault_server, way):
    pieces = [chunk(text) for text in ('{"items": [', '"a", ', '"b"]}')]
    fault_server.script(sse(*pieces, chunk(finish="stop"), DONE))
    model = scripted().with_structured_output(ItemsDict, method="json_schema")
    objects = way.stream(model, "hi")
    assert len(objects) > 1
    assert objects[-1] == {"items": ["a", "b"]}


def test_json_in_a_fence_is_read_and_prose_is_no_json(scripted, fault_server, way):
    fault_server.script(
        plain("stop", content=f"Here it is:\n```json\n{WHOLE}\n```"), plain("stop", content="No.")
    )
    model = scripted().with_structured_output(Items, method="json_mode")
    assert way.invoke(model, "hi") == Items(items=["a", "b"])
    with pytest.raises(OutputParserException):
        way.invoke(model, "hi")


# Forced calls that were ignored


@STREAMED
@pytest.mark.parametrize("choice", ["any", "rm"])
def test_an_answer_without_the_forced_call_is_an_error_that_names_the_model(
    scripted, fault_server, way, choice, is_streamed
):
    def rm(path: str) -> str:
        """Remove a path."""
        return path

    fault_server.script(answer(is_streamed, "stop", content="I'd rather talk."))
    costs = LunarCostCallbackHandler()
    model = scripted(callbacks=[costs]).bind_tools([rm], tool_choice=choice)
    with pytest.raises(
        ToolChoiceIgnoredError, match=r"answer of gpt-4o-mini.*method=\"prompt\""
    ) as caught:
        ask(way, model, is_streamed)
    assert caught.value.partial.choices[0].message.content == "I'd rather talk."
    assert not caught.value.is_retryable
    assert len(fault_server.bodies) == 1
    assert costs.ledger.total.calls == 1


@STREAMED
def test_so_is_structured_output_without_its_call(scripted, fault_server, way, is_streamed):
    fault_server.script(answer(is_streamed, "stop", content="Prose."))
    with pytest.raises(ToolChoiceIgnoredError) as caught:
        ask(way, scripted().with_structured_output(Items), is_streamed)
    assert caught.value.partial.choices[0].message.content == "Prose."


@STREAMED
@pytest.mark.parametrize("finish_reason", ["content_filter", "SAFETY", "refusal", "MAX_TOKENS"])
def test_what_was_withheld_or_cut_off_is_no_call_that_was_ignored(
    scripted, fault_server, way, is_streamed, finish_reason
):
    fault_server.script(answer(is_streamed, finish_reason, content=""))
    model = scripted().bind_tools([{"name": "f", "description": "f"}], tool_choice="any")
    message = way.streamed(model, "hi") if is_streamed else way.invoke(model, "hi")
    assert (message.text, message.tool_calls) == ("", [])
    assert message.response_metadata["finish_reason"] == finish_reason


@STREAMED
def test_a_refusal_is_no_call_that_was_ignored(scripted, fault_server, way, is_streamed):
    fault_server.script(plain("stop", refusal="I won't."))
    message = way.invoke(scripted().bind_tools([Items], tool_choice="any"), "hi")
    assert message.additional_kwargs["refusal"] == "I won't."


@STREAMED
@SCHEMAS
def test_a_call_of_another_tool_is_no_structured_output(
    scripted, fault_server, way, schema, is_streamed
):
    calls = [function("Things", WHOLE)]
    fault_server.script(answer(is_streamed, "tool_calls", tool_calls=calls))
    with pytest.raises(OutputParserException, match=r"Items.*Things"):
        ask(way, scripted().with_structured_output(schema), is_streamed)


@STREAMED
@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode", "prompt"])
def test_structured_output_that_was_withheld_is_told_as_that(
    scripted, fault_server, way, method, is_streamed
):
    fault_server.script(answer(is_streamed, "content_filter", content=""))
    with pytest.raises(OutputParserException, match=r"withheld.*content_filter"):
        ask(way, scripted().with_structured_output(Items, method=method), is_streamed)


def test_a_schema_may_be_asked_for_in_words(chat, lunar_sandbox, way):
    model = chat().with_structured_output(Items, method="prompt")
    assert isinstance(way.invoke(model, [("system", "Be brief."), ("user", "items: a, b")]), Items)
    body = json.loads(lunar_sandbox.requests()[-1]["body"])
    assert not body.keys() & {"tools", "response_format"}
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"].startswith("Be brief.")
    assert '"items"' in body["messages"][0]["content"]
