"""Chunks that are told by their bytes amount to what decoding each of them amounts to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import ChatCompletion, Completion
from lunar_core.wire import deltas
from lunar_core.wire.text_chunks import TextChunks

TEXTS = st.text(max_size=4) | st.sampled_from(
    ["a", "stop", '"', "\\", "}]}", "m", "\n", "é", "\u2028"]
)
CHOICES = st.fixed_dictionaries(
    {"index": st.integers(0, 1)},
    optional={
        "delta": st.fixed_dictionaries(
            {},
            optional={
                "content": TEXTS | st.none(),
                "role": st.sampled_from(["assistant", None]),
                "reasoning_content": st.sampled_from(["", "hm", None]),
                "refusal": st.none(),
            },
        ),
        "text": TEXTS,
        "finish_reason": st.sampled_from([None, "stop"]),
        "logprobs": st.sampled_from([None, {"content": [1]}]),
    },
)
CHUNKS = st.fixed_dictionaries(
    {"id": st.just("c"), "choices": st.lists(CHOICES, max_size=2)},
    optional={"model": st.sampled_from(["m", "n"]), "usage": st.sampled_from([None, {"x": [1]}])},
)


@given(
    st.lists(CHUNKS, max_size=12),
    st.sampled_from([ChatCompletion, Completion]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_they_amount_to_what_decoding_each_amounts_to(chunks, kind, separators, ascii_alone):
    quick, slow = deltas.Assembly(kind), deltas.Assembly(kind)
    for chunk in chunks:
        quick.feed(json.dumps(chunk, separators=separators, ensure_ascii=ascii_alone).encode())
        slow.add(json.loads(json.dumps(chunk)))
    assert quick.value() == slow.value()


def chunk(text, **fields):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **fields}


def written(*args, **fields):
    return json.dumps(chunk(*args, **fields)).encode()


def learned(text, **fields):
    chunks = TextChunks()
    chunks.learn(written(text, **fields), chunk(text, **fields))
    return chunks


def test_a_chunk_that_differs_in_its_text_alone_is_not_decoded():
    assert learned(" word").read([written(" another"), written(" one")]) == [" another", " one"]


def test_nor_are_those_whose_text_is_escaped():
    texts = ['"', "\n", "\\", "é", ""]
    assert learned(" word").read(list(map(written, texts))) == texts


def test_they_are_read_up_to_the_first_of_another_kind():
    no_string = written("a").replace(b'"a"', b'"\\x"')
    chunks = [written("a"), written('"'), no_string, written("b")]
    assert learned(" word").read(chunks) == ["a", '"']


@pytest.mark.parametrize(
    "other",
    [
        written("a").replace(b'"a"', b'"a","b"'),
        written("a").replace(b'"a"', b'"a\\"'),
        written("a").replace(b'"a"', b'"\\x"'),
        written(" word", model="n"),
        written("a").replace(b'"a"', b"1"),
        written("a")[:-1],
        b"",
        b"[DONE]",
    ],
    ids=repr,
)
def test_any_other_is(other):
    assert learned(" word").read([other, written(" word")]) == []


@pytest.mark.parametrize(
    ("text", "fields"),
    [("c", {}), ("", {}), (" word", {"usage": {"prompt_tokens": 1}}), (" word", {"choices": []})],
    ids=["text that stands elsewhere too", "none", "usage", "no choice"],
)
def test_nothing_is_learned_of_one_that_says_more(text, fields):
    assert learned(text, **fields).read([written(" word", **fields)]) == []
