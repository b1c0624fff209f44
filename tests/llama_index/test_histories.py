"""Conversations that another vendor's class or a program has begun, and what of them can be sent."""

from __future__ import annotations

import datetime as dt

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import BaseModel

from llama_index_lunar.messages import to_wire
from lunar_core import ConfigurationError
from tests.llama_index.provider import CHATS, RESULT, Service, answer, call, last_of
from tests.llama_index.support import user


class Place(BaseModel):
    """A place."""

    city: str


def test_of_an_assistants_turn_only_its_text_is_sent():
    blocks = [
        TextBlock(text="found"),
        ImageBlock(url="https://a.example/a.png"),
        AudioBlock(audio=b"UklGRg==", format="wav"),
        VideoBlock(url="https://a.example/a.mp4"),
        DocumentBlock(data=b"JVBERi0=", title="a.pdf"),
    ]
    assert to_wire([ChatMessage(role="assistant", blocks=blocks)]) == [
        {"role": "assistant", "content": "found"}
    ]


def test_a_block_that_cannot_be_sent_is_refused_by_its_place_before_anything_is_sent():
    service = Service(answer(content="k"))

    message = ChatMessage("x", role="user")
    message.blocks = [object()]
    with pytest.raises(ConfigurationError, match=r"messages\[1\]: "):
        service.llm().chat([ChatMessage("a", role="user"), message])
    assert service.bodies == []


def test_calls_without_a_name_are_left_out_with_their_results():
    blocks = [
        ToolCallBlock(tool_call_id="c1", tool_name="", tool_kwargs="{}"),
        ToolCallBlock(tool_call_id="c2", tool_name="f", tool_kwargs="{}"),
    ]
    second = ChatMessage("r2", role="tool", additional_kwargs={"tool_call_id": "c2"})
    wire = to_wire([*user("x"), ChatMessage(role="assistant", blocks=blocks), RESULT, second])
    assert [call["id"] for call in wire[1]["tool_calls"]] == ["c2"]
    assert [message.get("tool_call_id") for message in wire[2:]] == ["c2"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (dt.date(2026, 1, 1), '"2026-01-01"'),
        ({1}, "[1]"),
        (b"a", '"a"'),
        (float("nan"), "null"),
        (float("inf"), "null"),
        (Place(city="Rome"), '{"city": "Rome"}'),
    ],
    ids=["date", "set", "bytes", "NaN", "infinity", "a pydantic object"],
)
def test_arguments_that_a_program_wrote_are_written_as_pydantic_writes_json(value, written):
    block = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"v": value})
    (wire,) = to_wire([ChatMessage(role="assistant", blocks=[block])])
    assert wire["tool_calls"][0]["function"]["arguments"] == f'{{"v": {written}}}'


def test_arguments_that_json_cannot_carry_are_refused_by_their_place():
    block = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"v": object()})
    with pytest.raises(ConfigurationError, match=r"messages\[1\]"):
        to_wire([*user("x"), ChatMessage(role="assistant", blocks=[block])])


@pytest.mark.parametrize("endpoint", CHATS)
async def test_half_an_emoji_ends_no_conversation(endpoint):
    half = answer("tool_calls", content="", tool_calls=[call("f", '{"x": "\\ud83d"}')])
    service = Service(half, answer(content="k"))
    llm = service.llm()
    first = await last_of(llm, endpoint, user("x"))
    result = ChatMessage("caf\udce9", role="tool", additional_kwargs={"tool_call_id": "c1"})
    last = await last_of(llm, endpoint, [*user("x"), first.message, result])
    assert last.message.content == "k"
    assert service.bodies[1]["messages"][2]["content"] == "caf\ufffd"


def test_a_call_as_anthropics_class_keeps_it_goes_out_with_its_arguments():
    value = {"type": "tool_use", "id": "c1", "name": "f", "input": {"city": "Rome"}}
    message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [value]})
    (sent,) = to_wire([*user("x"), message, RESULT])[1]["tool_calls"]
    assert sent["function"] == {"name": "f", "arguments": '{"city": "Rome"}'}
