"""Halves of surrogate pairs in two events of a stream make one character; a lone half becomes U+FFFD."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core.wire.text import SurrogateJoiner
from tests.faults_steps import chunk, sse

HALVES = [chunk("hi \ud83d"), chunk("\ude00!"), chunk(finish="stop")]


def ascii_events(*chunks):
    """Events as a server writes them that escapes what is not ASCII."""
    return [f"data: {json.dumps(each)}\n\n" for each in chunks]


def test_two_halves_in_two_events_are_one_emoji(connect, fault_server):
    fault_server.script(sse(*ascii_events(*HALVES), "data: [DONE]\n\n"))
    question = {"model": "m", "messages": [{"role": "user", "content": "p"}]}
    stream = connect(fault_server).chat.completions.create(**question, stream=True)
    texts = [each.choices[0].delta.content or "" for each in stream]
    assert "".join(texts) == "hi 😀!"
    assert stream.get_final_completion().choices[0].message.content == "hi 😀!"


def joined(*chunks):
    joiner = SurrogateJoiner()
    return [json.loads(joiner.feed(json.dumps(each).encode())) for each in chunks]


def said(chunks, read):
    return "".join(read(each["choices"][0]) or "" for each in chunks)


def delta(**fields):
    return {"choices": [{"index": 0, "delta": fields}]}


FIELDS = {
    "content": lambda text: delta(content=text),
    "reasoning_content": lambda text: delta(reasoning_content=text),
    "text": lambda text: {"choices": [{"index": 0, "text": text}]},
    "arguments": lambda text: delta(tool_calls=[{"index": 1, "function": {"arguments": text}}]),
}
READERS = {
    "content": lambda choice: choice["delta"].get("content"),
    "reasoning_content": lambda choice: choice["delta"].get("reasoning_content"),
    "text": lambda choice: choice["text"],
    "arguments": lambda choice: choice["delta"]["tool_calls"][0]["function"]["arguments"],
}


@pytest.mark.parametrize("field", FIELDS)
@given(text=st.text(st.sampled_from("aß😀🤖"), max_size=6), data=st.data())
def test_a_text_is_whole_wherever_its_utf_16_was_cut(field, text, data):
    units = text.encode("utf-16-le")
    cut = 2 * data.draw(st.integers(0, len(units) // 2))
    pieces = [part.decode("utf-16-le", "surrogatepass") for part in (units[:cut], units[cut:])]
    chunks = joined(*map(FIELDS[field], pieces))
    assert said(chunks, READERS[field]) == text


def test_a_half_that_stays_alone_is_replaced_at_the_end_or_before_what_follows():
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert said(joined(delta(content="a\ud83d"), end), READERS["content"]) == "a\ufffd"
    alone = joined(delta(content="a\ud83d"), delta(content="b"))
    assert said(alone, READERS["content"]) == "a\ufffdb"


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b'"\\ud83d"', b'{"choices": [null, 7]}', b"7"]
)
def test_what_is_no_chunk_passes(payload):
    joiner = SurrogateJoiner()
    joiner.feed(json.dumps(delta(content="\ud83d")).encode())
    assert isinstance(joiner.feed(payload), bytes)
