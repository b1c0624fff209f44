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
    assert learned(" word").read(written(" another")) == " another"


@pytest.mark.parametrize(
    "other",
    [
        written('"'),
        written("\\"),
        written(" word", model="n"),
        written("a").replace(b'"a"', b"1"),
        written("a")[:-1],
        b"",
        b"[DONE]",
    ],
    ids=repr,
)
def test_any_other_is(other):
    assert learned(" word").read(other) is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [("c", {}), ("", {}), (" word", {"usage": {"prompt_tokens": 1}}), (" word", {"choices": []})],
    ids=["text that stands elsewhere too", "none", "usage", "no choice"],
)
def test_nothing_is_learned_of_one_that_says_more(text, fields):
    assert learned(text, **fields).read(written(" word", **fields)) is None


def test_no_lot_that_is_taken_apart_at_once_is_large(monkeypatch):
    """So that the event loop does not stand still: 5 ms are some thousand chunks."""
    lots, fold = [], deltas.Assembly._fold

    def counted(assembly):
        lots.append(len(assembly._tape))
        fold(assembly)

    monkeypatch.setattr(deltas.Assembly, "_fold", counted)
    assembly = deltas.Assembly(ChatCompletion)
    for number in range(30_000):
        assembly.feed(written(f" w{number}"))
    assert max(lots) < 1_000
    assert len(assembly.value()["choices"][0]["message"]["content"]) > 60_000
