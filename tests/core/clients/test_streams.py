"""Streams of every endpoint: the words as they come, and at the end all that a plain call has."""

import contextlib
import json

import pytest

from lunar_core import APIConnectionError, APIStreamError, ConfigurationError
from lunar_core.sandbox import run
from tests.core.clients.conftest import HELLO

documented = pytest.mark.parametrize("sandbox", ["documented"], indirect=True)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {**WEATHER["function"], "name": "get_time"}}


# What comes


def test_a_stream_says_word_by_word_what_a_plain_answer_says(ask, client, words):
    texts = [words(chunk) for chunk in ask.stream(client)]
    assert "".join(texts) == words(ask.plain(client))
    assert len([text for text in texts if text]) > 2


def test_every_chunk_has_a_choice_so_the_references_own_loop_works(ask, client):
    stream = ask.stream(client, extra_headers={"x-sandbox-usage": "closing"})
    assert all(len(chunk.choices) == 1 for chunk in stream)


def test_the_chunks_can_be_had_as_plain_json(ask, client, words):
    def text(choice):
        return choice["text"] if "text" in choice else choice["delta"].get("content") or ""

    chunks = list(ask.stream(client).plain_chunks())
    assert "".join(text(chunk["choices"][0]) for chunk in chunks) == words(ask.plain(client))


def test_put_together_it_is_what_a_plain_call_returns(ask, client, sandbox):
    def said(answer):
        """The answer without what differs between any two, and what the observed service keeps to itself."""
        return answer.model_dump(exclude={"id", "created", "usage", "routing"})

    streamed, plain = ask.stream(client).get_final_completion(), ask.plain(client)
    assert isinstance(plain, type(streamed))
    assert said(streamed) == said(plain)
    if sandbox.dialect == "documented":
        assert streamed.usage.cost == plain.usage.cost
        assert streamed.usage.total_tokens == plain.usage.total_tokens
        assert getattr(streamed, "routing", None) == getattr(plain, "routing", None) or (
            streamed.routing.model_dump() == plain.routing.model_dump()
        )
    else:
        assert streamed.usage is None


def test_a_stream_can_be_read_in_part_and_then_put_together(ask, client, words):
    stream = ask.stream(client)
    next(stream)
    assert words(stream.get_final_completion()) == words(ask.plain(client))


@pytest.mark.parametrize(
    ("style", "asked"),
    [
        ("last", {}),
        ("closing", {}),
        ("every", {}),
        ("none", {}),
        (None, {"stream_options": {"include_usage": True}}),
        (None, {"stream_options": {"include_usage": False}}),
    ],
    ids=str,
)
def test_usage_is_found_wherever_the_service_puts_it(style, asked, client, sandbox):
    headers = {"x-sandbox-usage": style} if style else {}
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, extra_headers=headers, **asked
    )
    answer = stream.get_final_completion()
    (bill,) = sandbox.billed()
    if bill["usage_sent"]:
        assert answer.usage.total_cost_usd == bill["total_cost_usd"]
        assert stream.usage == answer.usage
    else:
        assert (answer.usage, stream.usage) == (None, None)
    silent = sandbox.dialect == "observed" and style is None
    declined = {"include_usage": False} in asked.values()
    assert bill["usage_sent"] is not (silent or style == "none" or declined)


def test_the_call_is_known_from_the_start_and_its_time_to_the_first_word(ask, client, sandbox):
    stream = ask.stream(client)
    assert stream.call.request_id == sandbox.requests()[-1]["request_id"]
    assert stream.call.ttft_ms > 0
    answer = stream.get_final_completion()
    assert answer.call.call_id == stream.call.call_id
    assert 0 < answer.call.ttft_ms <= answer.call.latency_ms


@pytest.mark.parametrize("ask", ["router", "model=router", "decide, then call"], indirect=True)
def test_the_route_is_known_with_the_first_chunk(ask, client):
    stream = ask.stream(client)
    assert next(stream).routing.selected_model
    rest = [chunk.routing for chunk in stream]
    assert rest == [None] * len(rest)
    answer = stream.get_final_completion()
    assert stream.routing.selected_model == answer.routing.selected_model == answer.model
    assert answer.routing.cluster_id is not None


@documented
def test_several_choices_come_side_by_side(client):
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, n=3, stream=True, stream_options={}
    )
    chunks = list(stream)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1, 2}
    answer = stream.get_final_completion()
    plain = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, n=3)
    assert [c.message.content for c in answer.choices] == [c.message.content for c in plain.choices]


@documented
@pytest.mark.parametrize("model", ["gpt-4o-mini", "router"])
def test_tool_calls_come_in_pieces_and_end_up_whole(model, client):
    params = {
        "model": model,
        "messages": [{"role": "user", "content": "What are the weather and time in Paris?"}],
        "tools": [WEATHER, TIME],
        "tool_choice": "required",
    }
    plain = client.chat.completions.create(**params).choices[0]
    stream = client.chat.completions.create(**params, stream=True)
    streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == plain.finish_reason == "tool_calls"
    for choice in (plain, streamed):
        named = [call.function.name for call in choice.message.tool_calls]
        assert named == ["get_weather", "get_time"]
        cities = [json.loads(call.function.arguments) for call in choice.message.tool_calls]
        assert cities == [{"city": "Paris"}] * 2
        assert all(call.id for call in choice.message.tool_calls)


@documented
def test_reasoning_comes_before_the_words_and_is_kept_apart(client):
    stream = client.chat.completions.create(model="o3-mini", messages=HELLO, stream=True)
    message = stream.get_final_completion().choices[0].message
    plain = client.chat.completions.create(model="o3-mini", messages=HELLO).choices[0].message
    assert message.reasoning_content == plain.reasoning_content
    assert (message.reasoning_content, message.content) != (None, None)


def test_a_decision_alone_cannot_be_streamed(client, sandbox):
    with pytest.raises(ConfigurationError, match="stream"):
        client.router.create(messages=HELLO, execute=False, stream=True)
    assert sandbox.requests() == []


# Leaving early

LONG = [{"role": "user", "content": "Tell me 500 words"}]


def long_stream(client):
    return client.chat.completions.create(
        model="gpt-4o-mini",
        messages=LONG,
        stream=True,
        extra_headers={"x-sandbox-delay": "0.01"},
    )


def leave_by_break(stream):
    for _chunk in stream:
        break
    stream.close()


def leave_by_with(stream):
    with stream:
        next(stream)


def leave_by_error(stream):
    with contextlib.suppress(ZeroDivisionError), stream:
        for _chunk in stream:
            raise ZeroDivisionError


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_with, leave_by_error])
def test_a_stream_that_is_left_stops_being_generated_and_paid_for(leave, client, sandbox, watching):
    leave(long_stream(client))
    (bill,) = sandbox.billed(at_least=1)
    assert "aborted" in bill["tags"]
    assert bill["completion_tokens"] < 500
    assert [outcome.status for outcome in watching.outcomes] == ["aborted"]


def test_the_next_call_goes_on_as_if_nothing_had_been(client, words):
    leave_by_break(long_stream(client))
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert words(answer) == "hello to all four of us"


# Breaking off


@pytest.mark.parametrize(
    "fault",
    ["hangup-mid", "reset-mid", "error-mid", "detail-mid", "malformed", "truncated", "cut-mid"],
)
@pytest.mark.parametrize("ask", ["chat", "text"], indirect=True)
def test_words_that_came_before_a_fault_are_had_first_and_are_on_the_error(
    fault, ask, client, sandbox, words
):
    stream, heard = ask.stream(client, model=f"gpt-4o-mini!{fault}", max_retries=2), []
    with pytest.raises(APIStreamError) as caught:
        heard.extend(map(words, stream))
    assert "".join(heard) == "hello to "
    assert words(caught.value.partial) == "hello to "
    assert caught.value.request_id == sandbox.requests()[-1]["request_id"]
    assert len(sandbox.requests()) == len(caught.value.attempts) == 1


def test_a_stream_without_its_done_is_whole_if_it_said_why_it_ended(client, words):
    stream = client.chat.completions.create(
        model="gpt-4o-mini!no-done", messages=HELLO, stream=True
    )
    assert words(stream.get_final_completion()) == "hello to all four of us"


def test_killing_the_service_in_mid_stream_is_a_typed_error_with_the_partial_text(connect):
    with run(delay=0.01) as doomed:
        client = connect(doomed.url, api_key=doomed.api_key, max_retries=2)
        stream = client.chat.completions.create(model="gpt-4o", messages=LONG, stream=True)
        heard = [next(stream).choices[0].delta.content for _ in range(5)]
        doomed.kill()
        with pytest.raises(APIStreamError) as caught:
            stream.get_final_completion()
        assert caught.value.partial.choices[0].message.content.startswith("".join(heard))
        with pytest.raises(APIConnectionError):
            client.chat.completions.create(model="gpt-4o", messages=HELLO, max_retries=0)
