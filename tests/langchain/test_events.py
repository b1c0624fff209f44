"""Streams of events: the second version's chunks, and the third version's blocks, say what a plain stream says."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError

from langchain_lunar import LunarCostCallbackHandler
from lunar_core import APIStreamError
from tests.faults_steps import DONE, USAGE, chunk, hang, sse

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"
)


class Sync:
    def output(self, model, question, config=None):
        return model.stream_events(question, config, version="v3").output


class Async:
    def output(self, model, question, config=None):
        async def read():
            stream = await model.astream_events(question, config, version="v3")
            return await stream.output

        return asyncio.run(read())


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def events(request):
    """How the third version is used, in sync and in async code."""
    return request.param()


# The third version


def test_text_usage_cost_and_route_are_told(chat, lunar_sandbox):
    stream = chat("router").stream_events("Say hello to Ann", version="v3")
    assert "".join(stream.text) == "hello to Ann"
    metadata = stream.output.response_metadata
    assert metadata["routing"]["selected_model"] == metadata["model_name"]
    assert metadata["total_cost_usd"] == lunar_sandbox.billed()[0]["total_cost_usd"]
    assert stream.output.usage_metadata["total_tokens"] > 0


def delta(**fields):
    return chunk(choices=[{"index": 0, "delta": fields, "finish_reason": None}])


def call(index, call_id=None, name=None, arguments=None):
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


SAID = {
    "text": [delta(content="Hel"), delta(content="lo")],
    "reasoning": [delta(reasoning_content="Hm"), delta(reasoning="m"), delta(content="Hello")],
    "refusal": [delta(refusal="I "), delta(refusal="won't.")],
    "tools": [
        delta(content="Let me see."),
        delta(tool_calls=[call(0, "c1", "add", ""), call(1, "c2", "sub", '{"a"')]),
        delta(tool_calls=[call(1, arguments=": 2}")]),
        delta(tool_calls=[call(0, arguments='{"a": 1}')]),
    ],
}
OF_THE_CALL = {"call_id", "latency_ms", "ttft_ms", "output_version"}


@pytest.mark.parametrize("said", SAID)
def test_a_message_is_the_one_that_chunks_amount_to(scripted, fault_server, events, said):
    end = [chunk(finish="stop"), chunk(choices=[], usage=USAGE), DONE]
    fault_server.always(sse(*SAID[said], *end))
    first, *rest = scripted().stream("hi")
    plain, told = first.__add__(rest), events.output(scripted(), "hi")
    assert told.text == plain.text
    assert [(c["id"], c["name"], c["args"]) for c in told.tool_calls] == [
        (c["id"], c["name"], c["args"]) for c in plain.tool_calls
    ]
    assert [b["type"] for b in told.content_blocks] == [b["type"] for b in plain.content_blocks]
    assert told.usage_metadata == plain.usage_metadata
    kept = plain.response_metadata.keys() - OF_THE_CALL
    assert {k: told.response_metadata[k] for k in kept} == {
        k: plain.response_metadata[k] for k in kept
    }


def test_a_stream_that_breaks_raises_and_keeps_the_cost_that_had_come(
    scripted, fault_server, events
):
    fault_server.script(sse(chunk("Hel", usage=USAGE), {"error": {"message": "no such luck"}}))
    handler = LunarCostCallbackHandler()
    with pytest.raises(APIStreamError, match="no such luck") as failed:
        events.output(scripted(), "hi", {"callbacks": [handler]})
    assert isinstance(failed.value, ModelError)
    (entry,) = handler.ledger
    assert (entry.status, float(entry.cost)) == ("failed", USAGE["total_cost_usd"])


def test_a_stream_that_is_dropped_stops_the_generation(scripted, fault_server):
    """LangChain's object has no close and is a cycle: the collector has it."""
    fault_server.script(sse(chunk("Hel"), chunk("lo"), hang))
    stream = scripted().stream_events("hi", version="v3")
    assert next(iter(stream.text)) == "Hel"
    del stream
    gc.collect()
    fault_server.wait_until(lambda: fault_server.open == 0)


def test_so_does_closing_in_async_code(scripted, fault_server):
    async def leave():
        stream = await scripted().astream_events("hi", version="v3")
        async with contextlib.aclosing(stream):
            assert await anext(aiter(stream.text)) == "Hel"

    fault_server.script(sse(chunk("Hel"), chunk("lo"), hang))
    asyncio.run(leave())
    fault_server.wait_until(lambda: fault_server.open == 0)


@pytest.mark.parametrize("others", [[], [BaseCallbackHandler()]], ids=["alone", "beside others"])
def test_what_a_stream_cost_is_known_although_its_loop_closes_with_it(chat, lunar_sandbox, others):
    """The loop cancels what LangChain still does in a task of its own, such as telling handlers of the end."""
    handler = LunarCostCallbackHandler()
    Async().output(chat(), "Say hi", {"callbacks": [handler, *others]})
    (entry,) = handler.ledger
    assert (entry.cost, handler.unpriced) == (lunar_sandbox.total_billed(), 0)


# The second version


@pytest.mark.parametrize("name", ["gpt-4o-mini", "router"])
async def test_the_second_version_carries_the_chunks(chat, name):
    told = [event async for event in chat(name).astream_events("Say hello to Ann", version="v2")]
    pieces = [event["data"]["chunk"] for event in told if event["event"] == "on_chat_model_stream"]
    (end,) = [event["data"]["output"] for event in told if event["event"] == "on_chat_model_end"]
    assert "".join(piece.content for piece in pieces) == "hello to Ann"
    assert pieces[-1].response_metadata["total_cost_usd"] > 0
    assert end.response_metadata["total_cost_usd"] > 0
    assert ("routing" in end.response_metadata) == (name == "router")
