"""Chunks and answers of odd forms: taken as far as they make sense, and never a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_lunar.chunks import ChatChunks, CompletionChunks
from lunar_core.types.completions import CallInfo
from tests.faults_steps import DONE, chunk, completion, reply, sse
from tests.llama_index.support import ask

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def record(**fields):
    """A dict with any of these fields, each in its own form or in another."""
    return st.fixed_dictionaries(
        {}, optional={name: form | values for name, form in fields.items()}
    )


functions = record(
    name=st.sampled_from(["f", "g"]), arguments=st.sampled_from(["", '{"a"', ": 1}"])
)
pieces = record(index=st.integers(0, 2), id=st.sampled_from(["a", "b"]), function=functions)
deltas = record(
    content=st.text(max_size=5), reasoning_content=st.text(max_size=5), tool_calls=st.lists(pieces)
)
choices = record(
    index=st.integers(0, 1),
    delta=deltas,
    text=st.text(max_size=5),
    finish_reason=st.sampled_from(["stop", "tool_calls"]),
    logprobs=record(content=st.lists(record(token=st.text(max_size=2), logprob=st.floats()))),
)
chunks = st.builds(
    lambda rest, listed: {**rest, "choices": listed},
    record(id=st.text(max_size=3), model=st.text(max_size=3), provider=st.text(max_size=3)),
    st.lists(choices, min_size=1, max_size=2),
)


class Ended:
    call = CallInfo(call_id="c1")
    usage = routing = None


@given(st.lists(chunks, max_size=6))
def test_no_chunk_breaks_a_chat(stream):
    converter = ChatChunks()
    said = [response for each in stream for response in converter.feed(each)]
    said.append(converter.last(Ended()))
    text = said[-1].message.content or ""
    assert "".join(response.delta for response in said) == text
    assert all(isinstance(response.raw, dict) for response in said)
    assert len(said) >= len(stream)


@given(st.lists(chunks, max_size=6))
def test_no_chunk_breaks_a_text(stream):
    converter = CompletionChunks()
    said = [response for each in stream for response in converter.feed(each)]
    said.append(converter.last(Ended()))
    assert "".join(response.delta for response in said) == said[-1].text


@pytest.mark.parametrize("endpoint", ["chat", "stream_chat"])
async def test_content_in_parts_is_one_text(endpoint, llm_on, faults):
    content = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "hi"}]
    message = {"role": "assistant", "content": content}
    if endpoint == "chat":
        faults.always(reply(json=completion(choices=[{"index": 0, "message": message}])))
    else:
        faults.always(
            sse(chunk(choices=[{"index": 0, "delta": message}]), chunk(finish="stop"), DONE)
        )
    assert (await ask(llm_on(faults), endpoint))[-1].message.content == "hi"


async def test_of_choices_in_any_order_the_first_is_shown(llm_on, faults):
    def both(*texts):
        listed = [{"index": i, "delta": {"content": text}} for i, text in enumerate(texts)]
        return chunk(choices=listed[::-1])

    faults.always(sse(both("a", "x"), both("b", "y"), chunk(finish="stop"), DONE))
    assert (await ask(llm_on(faults), "stream_chat"))[-1].message.content == "ab"
