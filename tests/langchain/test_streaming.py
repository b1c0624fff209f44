"""Streams: text as it comes, usage once, an early end at once, and a broken one told as far as it came."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import HumanMessage

import lunar_core
from tests.faults_steps import DONE, USAGE, chunk, completion, hang, reply, reset, spoken, sse, wait

LATENCIES = {"latency_ms", "ttft_ms"}
OF_THE_CALL = LATENCIES | {"attempts", "call_id", "id", "token_usage"}


def metadata_of(message):
    return {k: v for k, v in message.response_metadata.items() if k not in OF_THE_CALL}


# What chunks amount to


@pytest.mark.parametrize("name", ["gpt-4o-mini", "router", "openai/gpt-4o"])
def test_a_stream_amounts_to_what_a_plain_answer_says(chat, way, name):
    model = chat(name)
    plain, streamed = way.invoke(model, "Say hello to Ann"), way.streamed(model, "Say hello to Ann")
    assert streamed.content == plain.content
    assert metadata_of(streamed) == metadata_of(plain)
    assert streamed.usage_metadata == plain.usage_metadata
    assert streamed.response_metadata.keys() >= LATENCIES


def test_each_key_is_on_one_chunk(chat, way):
    chunks = way.stream(chat("router"), "Say hello to Ann")
    keys = [key for chunk in chunks for key in chunk.response_metadata]
    assert sorted(keys) == sorted(set(keys))
    assert [bool(chunk.usage_metadata) for chunk in chunks].count(True) == 1
    assert "routing" in chunks[0].response_metadata
    assert {"model_name", "total_cost_usd", "finish_reason"} <= chunks[-1].response_metadata.keys()


def test_the_last_chunk_says_that_it_is(chat, way):
    chunks = way.stream(chat(), "Say hello to Ann")
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]


def test_the_route_of_a_stream_is_told_once(chat, way):
    chunks = way.stream(chat("router"), "hi")
    routes = [piece.response_metadata.get("routing") for piece in chunks]
    assert [bool(route) for route in routes] == [True] + [False] * (len(chunks) - 1)


def test_of_several_choices_the_first_is_streamed(chat, way):
    answer = way.streamed(chat(n=2, max_tokens=4), "Write a story about a cat.")
    one = way.invoke(chat(max_tokens=4), "Write a story about a cat.")
    assert answer.content == one.content


def test_an_answer_that_came_whole_although_a_stream_was_asked_for_is_taken(
    scripted, fault_server, way
):
    fault_server.script(reply(json=completion("Hello!")))
    answer = way.streamed(scripted(), "hi")
    assert (answer.content, answer.usage_metadata["total_tokens"]) == ("Hello!", 30)


# Usage


def usage_on(place):
    """A stream whose usage comes in one of the ways that services have."""
    said, end = [chunk("Hel"), chunk("lo!")], chunk(finish="stop")
    if place == "a chunk of its own":
        return [*said, end, chunk(choices=[], usage=USAGE), DONE]
    if place == "the chunk with the finish_reason":
        return [*said, {**end, "usage": USAGE}, DONE]
    if place == "the last text":
        return [said[0], {**chunk("lo!", finish="stop"), "usage": USAGE}, DONE]
    if place == "every chunk, growing":
        first = {**USAGE, "completion_tokens": 1, "total_tokens": 11, "total_cost_usd": 0.00001}
        return [{**said[0], "usage": first}, {**said[1], "usage": USAGE}, end, DONE]
    if place == "two chunks, the cost in the first":
        tokens = {name: USAGE[name] for name in USAGE if name.endswith("tokens")}
        return [*said, {**end, "usage": USAGE}, chunk(choices=[], usage=tokens), DONE]
    assert place == "a chunk without choices, null elsewhere"
    closing = {"id": "chatcmpl-abc123", "model": "gpt-4o-mini", "usage": USAGE}
    return [*({**piece, "usage": None} for piece in [*said, end]), closing, DONE]


PLACES = [
    "a chunk of its own",
    "the chunk with the finish_reason",
    "the last text",
    "every chunk, growing",
    "two chunks, the cost in the first",
    "a chunk without choices, null elsewhere",
]


@pytest.mark.parametrize("place", PLACES)
def test_usage_and_cost_are_told_once_wherever_the_service_puts_them(
    scripted, fault_server, way, place
):
    fault_server.script(sse(*usage_on(place)))
    chunks = way.stream(scripted(), "hi")
    first, *rest = chunks
    answer = first.__add__(rest)
    assert answer.content == "Hello!"
    assert answer.usage_metadata == {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert answer.response_metadata["total_cost_usd"] == USAGE["total_cost_usd"]
    assert answer.response_metadata["finish_reason"] == "stop"
    assert [bool(piece.usage_metadata) for piece in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_finish_reason_that_is_repeated_is_told_once(scripted, fault_server, way):
    twice = [chunk("Hi"), chunk(finish="stop"), chunk(finish="stop", usage=USAGE), DONE]
    fault_server.script(sse(*twice))
    assert way.streamed(scripted(), "hi").response_metadata["finish_reason"] == "stop"


def test_counts_that_are_no_whole_numbers_become_such(scripted, fault_server, way):
    usage = {**USAGE, "prompt_tokens": 10.0, "completion_tokens": 20.0, "total_tokens": 30.0}
    fault_server.script(sse(*spoken("Hi", usage=usage)))
    counted = way.streamed(scripted(), "hi").usage_metadata
    assert counted == {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert {type(count) for count in counted.values()} == {int}


# Callbacks


def test_each_token_is_told_once_with_its_chunk(chat, way, told):
    chunks = way.stream(chat(), "Say hello to Ann", config={"callbacks": [told]})
    assert [chunk.message for _, chunk in told.tokens] == chunks
    assert [token for token, _ in told.tokens] == [chunk.content for chunk in chunks]
    assert told.ended[0].generations[0][0].message.usage_metadata["total_tokens"] > 0


def test_a_model_that_streams_always_tells_tokens_of_a_plain_call_too(chat, way, told):
    answer = way.invoke(chat(streaming=True), "Say hello to Ann", config={"callbacks": [told]})
    assert len(told.tokens) > 2
    assert answer.response_metadata["total_cost_usd"] > 0


def test_a_model_that_never_streams_answers_in_one_piece(chat, way, lunar_sandbox):
    assert len(way.stream(chat(streaming=False), "Say hello to Ann")) == 1
    assert len(way.stream(chat(disable_streaming=True), "Say hello to Ann")) == 1
    bodies = [json.loads(request["body"]) for request in lunar_sandbox.requests()]
    assert [body.get("stream") for body in bodies] == [None, None]


def test_used_without_callbacks_a_stream_tells_no_one(chat):
    chunks = list(chat()._stream([HumanMessage("hi")]))
    assert chunks[-1].message.chunk_position == "last"


# What the service is asked


def test_streams_ask_for_their_usage(scripted, fault_server, way):
    fault_server.always(sse(*spoken("Hi")))
    model = scripted()
    way.stream(model, "hi")
    way.stream(model, "hi", stream_usage=False)
    way.stream(scripted(stream_usage=False), "hi")
    way.stream(model, "hi", stream_options={"include_usage": False})
    options = [body.get("stream_options") for body in fault_server.bodies]
    assert options == [{"include_usage": True}, None, None, {"include_usage": False}]


def test_a_plain_call_does_not_even_where_streams_were_told_to(scripted, fault_server):
    """Providers refuse the option there."""
    fault_server.script(reply(json=completion()))
    scripted(model_kwargs={"stream_options": {"include_usage": True}}).invoke("hi")
    assert "stream_options" not in fault_server.bodies[0]


def test_a_routed_stream_decides_first_and_asks_for_usage_in_the_second_request(
    chat, way, lunar_sandbox
):
    answer = way.streamed(chat("router", top_p=0.5), "hi")
    assert [request["path"].rpartition("/v1/")[2] for request in lunar_sandbox.requests()] == [
        "router",
        "chat/completions",
    ]
    assert answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["routing"]["selected_model"] == "gpt-4o"


# Time


def test_the_first_chunk_is_out_before_the_second_was_sent(scripted, fault_server):
    go = threading.Event()
    fault_server.script(sse(chunk("Hel"), wait(go), *spoken("lo!")))
    stream = scripted().stream("hi")
    assert next(stream).content == "Hel"
    go.set()
    assert "".join(piece.content for piece in stream) == "lo!"


async def test_the_first_chunk_is_out_before_the_second_was_sent_in_async_code(
    scripted, fault_server
):
    go = threading.Event()
    fault_server.script(sse(chunk("Hel"), wait(go), *spoken("lo!")))
    stream = scripted().astream("hi")
    assert (await anext(stream)).content == "Hel"
    go.set()
    assert "".join([piece.content async for piece in stream]) == "lo!"


def test_leaving_a_stream_early_stops_the_generation(scripted, fault_server, told):
    fault_server.script(sse(chunk("Hel"), chunk("lo"), hang))
    for piece in scripted().stream("hi", config={"callbacks": [told]}):
        assert piece.content == "Hel"
        break
    fault_server.wait_until(lambda: fault_server.open == 0)
    ((error, response),) = told.failed
    assert isinstance(error, GeneratorExit)
    assert response.generations[0][0].text == "Hel"


def test_closing_a_stream_stops_the_generation(scripted, fault_server):
    fault_server.script(sse(chunk("Hel"), hang))
    stream = scripted().stream("hi")
    next(stream)
    stream.close()
    fault_server.wait_until(lambda: fault_server.open == 0)


async def test_leaving_a_stream_early_stops_the_generation_in_async_code(scripted, fault_server):
    fault_server.script(sse(chunk("Hel"), chunk("lo"), hang))
    async for piece in scripted().astream("hi"):
        assert piece.content == "Hel"
        break
    await gone(fault_server)


async def test_a_task_that_is_cancelled_stops_the_generation(scripted, fault_server, told):
    fault_server.script(sse(chunk("Hel"), hang))
    seen = asyncio.Event()

    async def read():
        async for _ in scripted().astream("hi", config={"callbacks": [told]}):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(fault_server)
    assert isinstance(told.failed[0][0], asyncio.CancelledError)


async def gone(fault_server):
    """Let the event loop run until the server has seen the connection end."""
    deadline = time.monotonic() + 20
    while fault_server.open:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


# Streams that break


BREAKS = {
    "cut off": [reset],
    "ended before its time": [],
    "an error event": [{"error": {"message": "upstream failed", "code": 500}}],
    "an error event of the gateway": [{"detail": "upstream failed"}],
    "a chunk that is none": ["data: {nonsense\n\n"],
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_stream_that_breaks_raises_an_error_of_both_kinds_with_what_had_come(
    scripted, fault_server, way, told, how
):
    fault_server.script(sse(chunk("Hel"), chunk("lo"), *BREAKS[how], chunked=how != "cut off"))
    chunks = []
    with pytest.raises(lunar_core.APIStreamError) as failed:
        way.stream(scripted(), "hi", into=chunks, config={"callbacks": [told]})
    error = failed.value
    assert isinstance(error, ModelError)
    assert error.partial.choices[0].message.content == "Hello"
    assert "".join(piece.content for piece in chunks) == "Hello"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    ((seen, response),) = told.failed
    assert seen is error
    assert response.generations[0][0].text == "Hello"


def test_usage_that_came_before_a_stream_broke_reaches_the_callbacks(
    scripted, fault_server, way, told
):
    fault_server.script(sse(chunk("Hel"), chunk("lo", usage=USAGE), {"error": "upstream failed"}))
    with pytest.raises(lunar_core.APIStreamError) as failed:
        way.stream(scripted(), "hi", config={"callbacks": [told]})
    message = told.failed[0][1].generations[0][0].message
    assert message.usage_metadata["total_tokens"] == 30
    assert message.response_metadata["total_cost_usd"] == USAGE["total_cost_usd"]
    assert message.response_metadata["model_name"] == "gpt-4o-mini"
    assert failed.value.partial.usage.total_cost_usd == USAGE["total_cost_usd"]


def test_nothing_is_asked_again_once_text_has_come(scripted, fault_server, way):
    fault_server.script(sse(chunk("Hel"), reset, chunked=False))
    with pytest.raises(lunar_core.APIStreamError):
        way.stream(scripted(max_retries=3, fallbacks=["gpt-4o"]), "hi")
    assert len(fault_server.requests) == 1


def test_until_text_has_come_another_model_may_answer(chat, way):
    answer = way.streamed(chat("fault-error-first", fallbacks=["gpt-4o"]), "Say hello")
    assert answer.content == "hello"
    assert answer.response_metadata["model_name"] == "gpt-4o"
    assert len(answer.response_metadata["attempts"]) == 2


def test_langchains_own_fallbacks_work_for_streams_too(chat, way):
    model = chat("fault-503").with_fallbacks([chat("gpt-4o")])
    assert way.streamed(model, "Say hello").content == "hello"
