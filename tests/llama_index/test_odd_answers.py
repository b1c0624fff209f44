"""Odd answers of providers, read for what they are: calls in pieces, custom calls, failures in a 200, blocked ones."""

from __future__ import annotations

import json

import httpx
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
)
from llama_index.core.tools import FunctionTool

from llama_index_lunar import LunarLLM
from llama_index_lunar.messages import to_wire
from lunar_core import LunarError
from tests.llama_index.provider import CHATS, RESULT, Service, answer, call, last_of
from tests.llama_index.support import ask, user


@pytest.mark.parametrize("call_id", [None, ""])
async def test_a_call_without_an_id_gets_the_same_one_plain_and_streamed(call_id):
    answers = answer("tool_calls", content="", tool_calls=[call("f", "{}", call_id)])
    llm = Service(answers).llm()
    ids = set()
    for endpoint in CHATS:
        (block,) = (await last_of(llm, endpoint, user("x"))).message.blocks
        ids.add(block.tool_call_id)
    assert len(ids) == 1
    assert ids.pop()


def deltas(*pieces):
    """The events of a stream of tool-call pieces, one delta each."""
    events = [{"choices": [{"index": 0, "delta": {"tool_calls": [p]}}]} for p in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return events


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        pytest.param(
            [
                {"index": 0, **call("f", '{"path":"a"}', "")},
                {"index": 0, **call("f", '{"path":"b"}', "")},
            ],
            [("f", {"path": "a"}), ("f", {"path": "b"})],
            id="two under one number, without ids",
        ),
        pytest.param(
            [
                {"index": 0, **call("get_", "")},
                {"index": 0, "function": {"name": "weather", "arguments": "{}"}},
            ],
            [("get_weather", {})],
            id="a name in pieces",
        ),
        pytest.param(
            [
                {"index": 0, **call("f", "{}")},
                {"index": 0, "function": {"arguments": '{"x": 1}'}},
            ],
            [("f", {"x": 1})],
            id="arguments after empty ones",
        ),
        pytest.param(
            [
                {"index": 0, "function": {"name": "f", "arguments": ""}},
                {"index": 0, "id": "late", "function": {"arguments": '{"x": 1}'}},
            ],
            [("f", {"x": 1})],
            id="the id comes late",
        ),
    ],
)
async def test_calls_in_pieces_are_put_together_by_the_cores_rule(pieces, calls):
    for endpoint in ("stream_chat", "astream_chat"):
        llm = Service(deltas(*pieces)).llm()
        last = await last_of(llm, endpoint, user("x"))
        found = llm.get_tool_calls_from_response(last)
        assert [(each.tool_name, each.tool_kwargs) for each in found] == calls
        assert len({each.tool_id for each in found}) == len(calls)


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_custom_call_without_text_has_no_text(endpoint):
    custom = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": ""}}
    llm = Service(answer("tool_calls", content="hi", tool_calls=[custom])).llm()
    last = await last_of(llm, endpoint, user("x"))
    (selection,) = llm.get_tool_calls_from_response(last)
    assert selection.tool_kwargs == {"input": ""}


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_custom_call_is_shown_and_sent_back_as_one(endpoint):
    custom = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "print(1)"}}
    service = Service(answer("tool_calls", content="hi", tool_calls=[custom]), answer(content="k"))
    llm = service.llm()
    first = await last_of(llm, endpoint, user("x"))
    assert first.message.content == "hi"
    (selection,) = llm.get_tool_calls_from_response(first)
    assert (selection.tool_name, selection.tool_kwargs) == ("run", {"input": "print(1)"})
    await last_of(llm, endpoint, [*user("x"), first.message, RESULT])
    assert service.bodies[1]["messages"][1]["tool_calls"] == [custom]


@pytest.mark.parametrize("endpoint", CHATS)
async def test_tools_whose_names_no_provider_takes_are_called_by_their_own(endpoint):
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {}}}
        for name in ("files.read", "files_read")
    ]
    service = Service(answer("tool_calls", content="", tool_calls=[call("files_read_2", "{}")]))
    llm = service.llm()
    choice = {"type": "function", "function": {"name": "files.read"}}
    first = await last_of(llm, endpoint, user("x"), tools=tools, tool_choice=choice)
    assert [each.tool_name for each in llm.get_tool_calls_from_response(first)] == ["files.read"]
    await last_of(llm, endpoint, [*user("x"), first.message, RESULT], tools=tools)
    one, two = service.bodies
    assert [t["function"]["name"] for t in one["tools"]] == ["files_read_2", "files_read"]
    assert one["tool_choice"]["function"]["name"] == "files_read_2"
    assert two["messages"][1]["tool_calls"][0]["function"]["name"] == "files_read_2"


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")  # LlamaIndex's own
@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
async def test_agents_find_tools_whose_names_would_meet(is_streamed):
    ran = []

    def make_tool(name):
        def read(path: str) -> str:
            """Read a file."""
            ran.append((name, path))
            return path

        return FunctionTool.from_defaults(read, name=name)

    tools = [make_tool("files.read"), make_tool("files_read")]
    # One after the other: not every version of LlamaIndex's agent allows two at once.
    calls = [call("files_read_2", '{"path": "a"}'), call("files_read", '{"path": "b"}', "c2")]
    answers = [answer("tool_calls", content="", tool_calls=[one]) for one in calls]
    service = Service(*answers, answer(content="done"))
    agent = FunctionAgent(tools=tools, llm=service.llm(), streaming=is_streamed)
    assert str(await agent.run("Read.")) == "done"
    assert ran == [("files.read", "a"), ("files_read", "b")]
    sent = [tool["function"]["name"] for tool in service.bodies[0]["tools"]]
    assert sent == ["files_read_2", "files_read"]


async def test_the_first_choice_is_the_one_numbered_0():
    choices = [
        {
            "index": 1,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "second"},
        },
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "first"}},
    ]
    llm = Service({"choices": choices}).llm()
    assert llm.chat(user("x")).message.content == "first"
    texts = [{"index": 1, "text": "second"}, {"index": 0, "text": "first"}]
    assert Service({"choices": texts}).llm(is_chat_model=False).complete("x").text == "first"


def test_a_probability_of_0_can_be_written_as_json():
    body = answer(content="a")
    body["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": float("-inf")}]}

    def handle(request):
        return httpx.Response(200, text=json.dumps(body))

    llm = LunarLLM(
        "m", api_key="pk_1", http_client=httpx.Client(transport=httpx.MockTransport(handle))
    )
    response = llm.chat(user("x"))
    assert response.logprobs[0][0].logprob == -9999.0


def test_a_sounds_format_is_without_its_codec():
    block = AudioBlock(audio=b"UklGRg==", format="audio/webm;codecs=opus")
    (wire,) = to_wire([ChatMessage(role="user", blocks=[block])])
    assert wire["content"][0]["input_audio"]["format"] == "webm"


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_200_that_tells_of_a_failure_is_a_failure(endpoint):
    failed = answer("error", content="")
    failed["choices"][0]["error"] = {"code": 502, "message": "upstream died"}
    service = Service(failed, answer(content="k"))
    llm = service.llm(fallbacks=["n"])
    assert (await last_of(llm, endpoint, user("x"))).message.content == "k"
    assert [body["model"] for body in service.bodies] == ["m", "n"]
    with pytest.raises(LunarError, match="upstream died"):
        await last_of(Service(failed).llm(), endpoint, user("x"))


@pytest.mark.parametrize("endpoint", CHATS)
async def test_an_answer_that_was_blocked_is_empty_and_keeps_its_cost(endpoint):
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_cost_usd": 0.001}
    body = answer("content_filter")
    del body["choices"][0]["message"]
    body["usage"] = usage
    llm = Service([body] if "stream" in endpoint else body).llm()
    last = await last_of(llm, endpoint, user("x"))
    assert not last.message.content
    assert last.additional_kwargs["finish_reason"] == "content_filter"
    assert last.additional_kwargs["total_cost_usd"] == 0.001


@pytest.mark.parametrize(
    "endpoint", ["complete", "acomplete", "stream_complete", "astream_complete"]
)
@pytest.mark.parametrize("is_chat_model", [True, False], ids=["chat", "text"])
async def test_a_failure_in_a_200_is_one_for_completions_too(endpoint, is_chat_model):
    error = {"error": {"code": 429, "message": "slow down"}}
    answers = [error] if "stream" in endpoint else error
    llm = Service(answers).llm(is_chat_model=is_chat_model)
    with pytest.raises(LunarError, match="slow down") as caught:
        await ask(llm, endpoint)
    assert caught.value.is_retryable


@pytest.mark.parametrize("endpoint", ["stream_chat", "astream_chat"])
async def test_two_halves_in_two_events_are_one_emoji(endpoint):
    events = [
        '{"choices": [{"index": 0, "delta": {"content": "hi \\ud83d"}}]}',
        '{"choices": [{"index": 0, "delta": {"content": "\\ude00!"}}]}',
        '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
    ]
    last = await last_of(Service(events).llm(), endpoint, user("x"))
    assert last.message.content == "hi \U0001f600!"


@pytest.mark.parametrize("endpoint", CHATS)
async def test_what_depends_on_tools_is_not_sent_without_any(endpoint):
    service = Service(answer(content="k"))
    llm = service.llm(additional_kwargs={"parallel_tool_calls": False})
    await last_of(llm, endpoint, user("x"), tools=[], tool_choice="auto")
    assert not service.bodies[0].keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    await last_of(llm, endpoint, user("x"), extra_body={"tools": tools}, tool_choice="auto")
    assert service.bodies[1]["tool_choice"] == "auto"
    assert service.bodies[1]["parallel_tool_calls"] is False


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_spoken_answer_is_its_words_and_its_sound_in_streams_too(endpoint):
    pieces = [{"id": "a1"}, {"transcript": "Good "}, {"data": "UklGRi4u"}, {"transcript": "day"}]
    whole = {"id": "a1", "transcript": "Good day", "data": "UklGRi4uLi5X"}
    if "stream" in endpoint:
        deltas = [{"audio": piece} for piece in [*pieces, {"data": "Li5X"}]]
        spoken = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        spoken.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    else:
        spoken = answer(content=None, audio=whole)
    last = await last_of(Service(spoken).llm(), endpoint, user("x"))
    text, sound = last.message.blocks
    assert (text.text, sound.resolve_audio().read()) == ("Good day", b"RIFF....W")
