"""Chunks, put together, are the completion that a plain call would have returned."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import ChatCompletion, Completion
from lunar_core.wire.deltas import Assembly
from tests.faults_steps import reply, sse

COST = {"total_tokens": 30, "total_cost_usd": 0.000045}


def assembled(*chunks, kind=ChatCompletion):
    assembly = Assembly(kind)
    for chunk in chunks:
        assembly.feed(json.dumps(chunk).encode())
    return assembly


def piece(delta=None, *, index=0, **choice):
    return {"choices": [{"index": index, "delta": delta or {}, **choice}]}


def value(*chunks, kind=ChatCompletion):
    return kind.model_validate(assembled(*chunks, kind=kind).value())


# Taken apart in any way, put together again

TEXT = st.text(min_size=1, max_size=12)
NAMES = st.text("abcdefg_", min_size=1, max_size=6)


def parts(text):
    """A text, cut at up to three places."""
    return st.lists(st.integers(0, len(text)), max_size=3).map(
        lambda cuts: [
            text[start:end]
            for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)
            if start < end
        ]
    )


@st.composite
def messages(draw):
    """A choice's message, and the deltas that it came in: each tool call's own are in order."""
    message = {"role": "assistant", "content": draw(st.none() | TEXT)}
    lanes = [[{"content": text} for text in draw(parts(message["content"] or ""))]]
    for field in draw(st.sets(st.sampled_from(["reasoning_content", "refusal", "thought"]))):
        message[field] = draw(TEXT)
        lanes.append([{field: text} for text in draw(parts(message[field]))])
    calls = draw(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, TEXT, max_size=2)), max_size=3))
    for index, (name, arguments) in enumerate(calls):
        head = {"id": f"call_{index}", "type": "function"}
        text = json.dumps(arguments)
        message.setdefault("tool_calls", []).append(
            {**head, "function": {"name": name, "arguments": text}}
        )
        lane = [{"index": index, **head, "function": {"name": name, "arguments": ""}}]
        lane += [{"index": index, "function": {"arguments": t}} for t in draw(parts(text))]
        lanes.append([{"tool_calls": [delta]} for delta in lane])
    return message, [{"role": "assistant"}, *draw(interleaved(lanes))]


@st.composite
def interleaved(draw, lanes):
    """All items of all lanes, each lane's own in order."""
    lanes, mixed = [list(lane) for lane in lanes if lane], []
    while lanes:
        lane = draw(st.sampled_from(lanes))
        mixed.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
    return mixed


@st.composite
def streams(draw):
    """A completion, and the chunks of a stream that says the same."""
    head = {"id": "chatcmpl-abc123", "created": 7, "model": "gpt-4o-mini"}
    choices, lanes = [], []
    for index in range(draw(st.integers(1, 2))):
        message, deltas = draw(messages())
        reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
        choices.append({"index": index, "message": message, "finish_reason": reason})
        lane = [piece(delta, index=index, finish_reason=None) for delta in deltas]
        lanes.append([*lane, piece(index=index, finish_reason=reason)])
    chunks = [
        {**head, "object": "chat.completion.chunk", **chunk} for chunk in draw(interleaved(lanes))
    ]
    whole = {**head, "object": "chat.completion", "choices": choices}
    if draw(st.booleans()):
        whole["routing"] = chunks[0]["routing"] = {"selected_model": "gpt-4o-mini"}
    if draw(st.booleans()):
        whole["usage"] = COST
        where = draw(st.sampled_from(["last", "closing", "every"]))
        for chunk in {"last": chunks[-1:], "every": chunks}.get(where, []):
            chunk["usage"] = COST
        chunks += [{**head, "choices": [], "usage": COST}] if where == "closing" else []
    return whole, chunks


@given(streams())
def test_a_stream_amounts_to_the_completion_that_it_was_made_of(stream):
    whole, chunks = stream
    assert value(*chunks) == ChatCompletion.model_validate(whole)
    assert assembled(*chunks).finished


@given(streams(), st.data())
def test_at_any_time_it_amounts_to_what_has_come(stream, data):
    whole, chunks = stream
    count = data.draw(st.integers(0, len(chunks)))
    so_far = value(*chunks[:count])
    for choice in so_far.choices:
        complete = whole["choices"][choice.index]["message"]["content"] or ""
        assert complete.startswith(choice.message.content or "")
    assembly = assembled(*chunks[:count])
    assembly.value()
    for chunk in chunks[count:]:
        assembly.feed(json.dumps(chunk).encode())
    assert ChatCompletion.model_validate(assembly.value()) == ChatCompletion.model_validate(whole)


@given(st.lists(TEXT, max_size=6), st.booleans())
def test_so_does_a_stream_of_text(texts, ends_as_the_service_does):
    chunks = [{"id": "cmpl-1", "choices": [{"index": 0, "text": text}]} for text in texts]
    last = piece(finish_reason="stop")  # observed: a chat chunk ends a stream of text
    if not ends_as_the_service_does:
        last = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    assert value(*chunks, last, kind=Completion) == Completion.model_validate(
        {
            **({"id": "cmpl-1"} if texts else {}),
            "choices": [{"index": 0, "text": "".join(texts), "finish_reason": "stop"}],
        }
    )


# Tool calls, in every upstream's style

WEATHER = ("call_1", "get_weather", '{"city": "Łódź"}')
TIME = ("call_2", "get_time", '{"zone": "CET"}')


def call(index=..., *, id=..., name=..., arguments=...):
    """One entry of `delta.tool_calls`; what isn't named isn't there."""
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not ...}
    marks = {k: v for k, v in {"index": index, "id": id}.items() if v is not ...}
    return {**marks, **({"function": function} if function else {})}


def opened(index, what, **more):
    return call(index, id=what[0], name=what[1], **more)


def whole(index, what):
    return opened(index, what, arguments=what[2])


def cut(what):
    return what[2][:7], what[2][7:]


W1, W2 = cut(WEATHER)
T1, T2 = cut(TIME)

STYLES = {
    "batched in one chunk": [[whole(0, WEATHER), whole(1, TIME)]],
    "one whole call a chunk": [[whole(0, WEATHER)], [whole(1, TIME)]],
    "in pieces, one call after the other": [
        [opened(0, WEATHER, arguments="")],
        [call(0, arguments=W1)],
        [call(0, arguments=W2)],
        [opened(1, TIME, arguments="")],
        [call(1, arguments=T1)],
        [call(1, arguments=T2)],
    ],
    "interleaved": [
        [opened(0, WEATHER, arguments=W1), opened(1, TIME, arguments=T1)],
        [call(1, arguments=T2), call(0, arguments=W2)],
    ],
    "the second call first": [
        [opened(1, TIME, arguments=T1)],
        [opened(0, WEATHER, arguments=W1)],
        [call(1, arguments=T2)],
        [call(0, arguments=W2)],
    ],
    "ids repeated with each piece": [
        [opened(0, WEATHER, arguments="")],
        [call(0, id="call_1", arguments=W1)],
        [call(0, id="call_1", arguments=W2)],
        [opened(1, TIME)],
        [call(1, id="call_2", arguments=T1)],
        [call(1, id="call_2", arguments=T2)],
    ],
    "ids and names repeated with each piece": [
        [opened(0, WEATHER, arguments=W1)],
        [opened(0, WEATHER, arguments=W2)],
        [opened(1, TIME, arguments=T1)],
        [opened(1, TIME, arguments=T2)],
    ],
    "ids and names empty or null after the first piece": [
        [opened(0, WEATHER, arguments=W1)],
        [call(0, id="", name="", arguments=W2)],
        [opened(1, TIME, arguments=T1)],
        [call(1, id=None, name=None, arguments=T2)],
    ],
    "index 0 for all": [
        [opened(0, WEATHER, arguments=W1)],
        [call(0, arguments=W2)],
        [opened(0, TIME, arguments=T1)],
        [call(0, arguments=T2)],
    ],
    "index 0 for all, in one chunk": [[whole(0, WEATHER), whole(0, TIME)]],
    "no index": [
        [opened(..., WEATHER, arguments=W1)],
        [call(arguments=W2)],
        [opened(..., TIME)],
        [call(arguments=T1)],
        [call(arguments=T2)],
    ],
    "no index, ids repeated, interleaved": [
        [opened(..., WEATHER, arguments=W1), opened(..., TIME, arguments=T1)],
        [call(id="call_1", arguments=W2)],
        [call(id="call_2", arguments=T2)],
    ],
    "an index of null": [
        [opened(None, WEATHER, arguments=W1)],
        [call(None, arguments=W2)],
        [whole(None, TIME)],
    ],
    "no index, whole, in one chunk": [[whole(..., WEATHER), whole(..., TIME)]],
    "counted from 1": [[opened(1, WEATHER, arguments=W1)], [call(1, arguments=W2), whole(2, TIME)]],
    "a name in pieces": [
        [opened(0, ("call_1", "get_", ""))],
        [call(0, name="weather", arguments=WEATHER[2])],
        [whole(1, TIME)],
    ],
    "arguments as an object": [
        [opened(0, WEATHER, arguments=json.loads(WEATHER[2]))],
        [opened(..., TIME, arguments=json.loads(TIME[2]))],
    ],
}


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_pieces_of_tool_calls_find_their_call(style):
    chunks = [piece({"tool_calls": entries}) for entries in style]
    (choice,) = value(*chunks, piece(finish_reason="tool_calls")).choices
    read = [
        (call.id, call.type, call.function.name, json.loads(call.function.arguments))
        for call in choice.message.tool_calls
    ]
    assert read == [
        (id, "function", name, json.loads(arguments)) for id, name, arguments in (WEATHER, TIME)
    ]


def test_calls_without_ids_are_told_apart_by_their_names():
    entries = [call(name="f", arguments="{}"), call(name="f", arguments='{"a": 1}')]
    (choice,) = value(piece({"tool_calls": entries})).choices
    first, second = choice.message.tool_calls
    assert (first.function.arguments, second.function.arguments) == ("{}", '{"a": 1}')
    assert first.id != second.id


def test_fields_of_a_tool_call_that_we_do_not_know_are_kept():
    entry = {**whole(0, WEATHER), "type": "function", "extra_content": {"signature": "abc"}}
    (choice,) = value(piece({"tool_calls": [entry]})).choices
    assert choice.message.tool_calls[0].extra_content == {"signature": "abc"}


def test_each_choice_numbers_its_own_calls():
    answer = value(
        piece({"tool_calls": [whole(0, WEATHER)]}, index=0),
        piece({"tool_calls": [whole(0, TIME)]}, index=1),
    )
    assert [c.message.tool_calls[0].function.name for c in answer.choices] == [
        "get_weather",
        "get_time",
    ]


# What else rides along


def test_usage_is_what_was_said_last_and_a_cost_said_earlier_is_kept():
    answer = value(
        piece({"content": "Hi"}) | {"usage": {"completion_tokens": 1, "total_cost_usd": 0.00001}},
        piece(finish_reason="stop") | {"usage": {"completion_tokens": 2, "total_cost_usd": None}},
        {"choices": [], "usage": {"completion_tokens": 3}},
    )
    assert (answer.usage.completion_tokens, answer.usage.total_cost_usd) == (3, 0.00001)


def test_the_first_route_is_the_one():
    first, later = {"selected_model": "gpt-4o"}, {"selected_model": "gpt-4o-mini"}
    answer = value(piece({"content": "Hi"}), {"routing": first}, {"routing": later})
    assert answer.routing.selected_model == "gpt-4o"


def test_logprobs_grow_with_the_text():
    a, b = ({"content": [{"token": token, "logprob": -1.0}]} for token in "ab")
    (choice,) = value(
        piece({"content": "a"}, logprobs=a),
        piece({"content": "b"}, logprobs=b),
        piece(finish_reason="stop", logprobs=None),
    ).choices
    assert choice.logprobs == {"content": a["content"] + b["content"]}


def test_lists_in_a_delta_grow_and_unknown_fields_of_chunks_are_kept():
    answer = value(
        piece({"annotations": [{"url": "a"}]}) | {"system_fingerprint": "fp_1"},
        piece({"annotations": [{"url": "b"}]}) | {"provider": "openai"},
    )
    assert answer.choices[0].message.annotations == [{"url": "a"}, {"url": "b"}]
    assert (answer.system_fingerprint, answer.provider) == ("fp_1", "openai")


@pytest.mark.parametrize(
    ("chunk", "has_content"),
    [
        (piece({"role": "assistant"}), False),
        (piece({"role": "assistant", "content": ""}), False),
        (piece({"content": None}), False),
        ({"choices": [], "usage": COST}, False),
        ({"routing": {"selected_model": "gpt-4o"}}, False),
        (piece({"content": " "}), True),
        (piece({"reasoning_content": "hm"}), True),
        (piece({"reasoning": "hm"}), True),
        (piece({"refusal": "no"}), True),
        (piece({"tool_calls": [opened(0, WEATHER)]}), True),
        (piece(finish_reason="stop"), True),
        ({"choices": [{"index": 0, "text": "a"}]}, True),
        ({"choices": [{"index": 0, "text": ""}]}, False),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_content_is_text_reasoning_a_tool_call_or_an_end(chunk, has_content):
    assert assembled(chunk).has_content is has_content


def test_a_stream_is_finished_when_every_choice_has_said_why():
    assembly = assembled(piece({"content": "a"}, index=0), piece({"content": "b"}, index=1))
    assert not assembly.finished
    assembly.add(piece(index=1, finish_reason="stop"))
    assert not assembly.finished
    assembly.add(piece(index=0, finish_reason="length"))
    assert assembly.finished
    assert not assembled().finished


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json",
        b"[]",
        b"null",
        b'{"choices": null}',
        b'{"choices": [null, 7, {}]}',
        b'{"choices": [{"index": "x", "delta": 7}]}',
        b'{"choices": [{"delta": {"tool_calls": [null, 7, {}, {"function": 7}]}}]}',
        b'{"usage": 7}',
    ],
)
def test_a_garbled_chunk_does_not_stop_the_others_from_being_counted(garbage):
    assembly = Assembly(ChatCompletion)
    assembly.feed(garbage)
    assembly.feed(json.dumps(piece({"content": "Hi"}) | {"usage": COST}).encode())
    (choice, *_) = assembly.value()["choices"]
    assert choice["message"]["content"] == "Hi"
    assert assembly.get("usage") == COST


@pytest.mark.parametrize("forms", [1, 2], ids=["alike", "of two forms in turn"])
def test_a_long_stream_takes_time_in_proportion(forms):
    chunks = [
        json.dumps({"form": form, **piece({"content": "word "})}).encode() for form in range(forms)
    ]

    def seconds_for(count):
        assembly, started = Assembly(ChatCompletion), time.process_time()
        for number in range(count):
            assembly.feed(chunks[number % forms])
        assembly.value()
        return time.process_time() - started

    small, large = (min(seconds_for(count) for _ in range(3)) for count in (2_500, 40_000))
    assert large < 48 * small


def test_what_was_signed_survives_a_stream_and_goes_back_as_it_came(connect, fault_server):
    signed = {"google": {"thought_signature": "S"}}
    function = {"name": "f", "arguments": "{}", "signature": "T"}
    entry = {"id": "c1", "type": "function", "function": function, "extra_content": signed}
    fault_server.script(
        sse(
            piece({"reasoning_details": [{"data": "a"}], "tool_calls": [{"index": 0, **entry}]}),
            piece({"reasoning_details": [{"data": "b"}], "extra_content": signed}),
            piece(finish_reason="tool_calls"),
            "data: [DONE]\n\n",
        ),
        reply(json={"choices": [{"message": {"content": "k"}}]}),
    )
    client, question = connect(fault_server), {"role": "user", "content": "x"}
    stream = client.chat.completions.create(model="m", messages=[question], stream=True)
    message = stream.get_final_completion().choices[0].message
    result = {"role": "tool", "tool_call_id": "c1", "content": "r"}
    client.chat.completions.create(model="m", messages=[question, message, result])
    assert json.loads(fault_server.requests[1].body)["messages"][1] == {
        "role": "assistant",
        "tool_calls": [entry],
        "reasoning_details": [{"data": "a"}, {"data": "b"}],
        "extra_content": signed,
    }
