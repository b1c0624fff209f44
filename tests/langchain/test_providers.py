"""What real providers send, and what programs that began with another class hold: read right, and sent back right."""

from __future__ import annotations

import json
import pickle

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from lunar_core import LunarError
from tests.faults_steps import DONE, USAGE, chunk, completion, reply, sse
from tests.langchain.provider_answers import STREAMED, answer, ask, function, plain, streamed

# What was signed goes back (F3, F4)

SIGNATURE = {"google": {"thought_signature": "S"}}


def by_checkpoint(message):
    serde = JsonPlusSerializer()
    return serde.loads_typed(serde.dumps_typed(message))


TRAVELS = {
    "as it is": lambda message: message,
    "pickle": lambda message: pickle.loads(pickle.dumps(message)),
    "checkpoint": by_checkpoint,
    "dumpd": lambda message: load(dumpd(message), allowed_objects="messages"),
}


@STREAMED
@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("travel", TRAVELS)
def test_what_a_provider_signed_on_a_call_or_a_message_goes_back(
    scripted, fault_server, way, travel, is_streamed
):
    call = function("f", extra_content=SIGNATURE)
    signed = {"reasoning_details": [{"data": "D"}], "provider_specific_fields": {"a": 1}}
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=[call], **signed), plain(content="k")
    )
    model = scripted()
    message = TRAVELS[travel](ask(way, model, "x", is_streamed))
    way.invoke(model, [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    turn = fault_server.bodies[1]["messages"][1]
    assert turn["tool_calls"] == [call]
    assert {name: turn[name] for name in signed} == signed


def test_a_field_of_the_function_goes_back_too(scripted, fault_server, way):
    call = function("f")
    call["function"]["signature"] = "S"
    fault_server.script(plain("tool_calls", tool_calls=[call]), plain(content="k"))
    message = way.invoke(scripted(), "x")
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    assert fault_server.bodies[1]["messages"][1]["tool_calls"] == [call]


def test_it_goes_to_no_other_model(scripted, fault_server, way):
    call = function("f", extra_content=SIGNATURE)
    fault_server.script(
        plain("tool_calls", tool_calls=[call], reasoning_content="hm"),
        reply(503, json={"detail": "no"}),
        plain(content="k"),
        plain(content="k"),
    )
    message = way.invoke(scripted(), "x")
    talk = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(scripted(fallbacks=["mistral-small"]), talk)
    way.invoke(scripted("gpt-4o"), talk)
    _, writer, fallback, other = (body["messages"] for body in fault_server.bodies)
    assert writer[1]["tool_calls"][0]["extra_content"] == SIGNATURE
    assert writer[1]["reasoning_content"] == "hm"
    for turns in (fallback, other):
        assert turns[1] == {"role": "assistant", "content": "", "tool_calls": [function("f")]}


@pytest.mark.parametrize(
    ("replay_reasoning", "in_loop", "later"),
    [("tools", True, False), ("never", False, False), ("always", True, True)],
)
def test_reasoning_goes_back_in_the_tool_loop_that_is_answered(
    scripted, fault_server, way, replay_reasoning, in_loop, later
):
    fault_server.script(
        plain("tool_calls", tool_calls=[function("f")], reasoning_content="think"),
        plain(content="k"),
        plain(content="k"),
    )
    model = scripted(replay_reasoning=replay_reasoning)
    message = way.invoke(model, "x")
    loop = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(model, loop)
    way.invoke(model, [*loop, AIMessage("k"), HumanMessage("more")])
    first, second = (body["messages"][1] for body in fault_server.bodies[1:])
    assert (first.get("reasoning_content") == "think") is in_loop
    assert (second.get("reasoning_content") == "think") is later


@STREAMED
@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize(
    ("spoken", "sent"),
    [
        ({"reasoning": "think"}, {"reasoning"}),
        ({"reasoning_content": "think"}, {"reasoning_content"}),
        ({"content": [{"type": "thinking", "thinking": [{"text": "think"}]}]}, set()),
    ],
    ids=["vLLM", "DeepSeek", "Mistral"],
)
def test_reasoning_goes_back_under_the_name_that_it_came_by(
    scripted, fault_server, way, is_streamed, travel, spoken, sent
):
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=[function("f")], **spoken),
        plain(content="k"),
        plain(content="k"),
    )
    message = TRAVELS[travel](ask(way, scripted(), "x", is_streamed))
    assert message.additional_kwargs["reasoning_content"] == "think"
    loop = [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")]
    way.invoke(scripted(replay_reasoning="always"), loop)
    way.invoke(scripted(), loop)
    for body in fault_server.bodies[1:]:
        turn = body["messages"][1]
        assert turn.keys() & {"reasoning", "reasoning_content", "thinking"} == sent
        assert all(turn[name] == "think" for name in sent)
        assert turn["content"] == ""


def test_reasoning_that_came_by_both_names_is_shown_and_sent_back_once(scripted, fault_server, way):
    both = {"reasoning": "think", "reasoning_content": "think"}
    call = {"index": 0, **function("f")}
    fault_server.script(streamed(both, {"tool_calls": [call]}), plain(content="k"))
    message = way.streamed(scripted(), "x")
    assert message.additional_kwargs["reasoning_content"] == "think"
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    turn = fault_server.bodies[1]["messages"][1]
    assert turn["reasoning_content"] == "think"
    assert "reasoning" not in turn


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("thinking_blocks", "thinking", "thinking"),
        ("reasoning_details", "reasoning.text", "text"),
    ],
    ids=["LiteLLM", "OpenRouter"],
)
def test_what_was_signed_in_pieces_goes_back_whole(scripted, fault_server, way, name, kind, text):
    fault_server.script(
        streamed(
            {name: [{"type": kind, text: "h"}]},
            {name: [{"type": kind, text: "m"}]},
            {name: [{"type": kind, "signature": "S"}]},
            {name: [{"type": kind, text: "and"}]},
            {"tool_calls": [{"index": 0, **function("f")}]},
            finish_reason="tool_calls",
        ),
        plain(content="k"),
    )
    message = way.streamed(scripted(), "x")
    way.invoke(scripted(), [HumanMessage("x"), message, ToolMessage("r", tool_call_id="c1")])
    whole = [{"type": kind, text: "hm", "signature": "S"}, {"type": kind, text: "and"}]
    assert fault_server.bodies[1]["messages"][1][name] == whole


# A 200 that tells of a failure (F5, F11, F12)

FAILURE = {"code": 502, "message": "upstream died"}


@STREAMED
def test_a_choice_that_failed_is_fallen_back_from(scripted, fault_server, way, is_streamed):
    choice = {"index": 0, "finish_reason": "error", "error": FAILURE}
    failed = (
        sse(chunk(choices=[{**choice, "delta": {"content": ""}}]), DONE)
        if is_streamed
        else reply(
            json=completion(choices=[{**choice, "message": {"role": "assistant", "content": ""}}])
        )
    )
    fault_server.script(failed, answer(is_streamed, content="fine"))
    assert ask(way, scripted(fallbacks=["n"]), "x", is_streamed).content == "fine"
    assert len(fault_server.bodies) == 2


@STREAMED
def test_an_answer_beside_an_error_is_no_answer(scripted, fault_server, way, is_streamed):
    fields = {"error": FAILURE}
    failed = (
        sse(chunk("half an ans"), {**chunk(finish="error"), **fields}, DONE)
        if is_streamed
        else reply(json={**completion("half an ans"), **fields})
    )
    fault_server.script(failed)
    with pytest.raises(LunarError) as caught:
        ask(way, scripted(), "x", is_streamed)
    assert caught.value.partial.choices[0].message.content == "half an ans"
    assert caught.value.is_retryable


@STREAMED
def test_a_blocked_answer_is_empty_and_keeps_its_cost(scripted, fault_server, way, is_streamed):
    choice = {"index": 0, "finish_reason": "content_filter"}
    blocked = (
        sse(chunk(choices=[choice], usage=USAGE), DONE)
        if is_streamed
        else reply(json=completion(choices=[choice]))
    )
    fault_server.script(blocked)
    message = ask(way, scripted(), "x", is_streamed)
    assert message.content == ""
    assert message.response_metadata["finish_reason"] == "content_filter"
    assert message.response_metadata["total_cost_usd"] == USAGE["total_cost_usd"]


@STREAMED
def test_a_custom_call_spoils_nothing_and_goes_back_as_it_came(
    scripted, fault_server, way, is_streamed
):
    custom = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": 'print("hi")'}}
    calls = [custom, function("f", '{"x": 1}', "c2")]
    fault_server.script(
        answer(is_streamed, "tool_calls", content="hi", tool_calls=calls), plain(content="k")
    )
    message = ask(way, scripted(), "x", is_streamed)
    assert message.content == "hi"
    assert [(c["name"], c["args"], c["id"]) for c in message.tool_calls] == [
        ("run", {"__arg1": 'print("hi")'}, "c1"),
        ("f", {"x": 1}, "c2"),
    ]
    results = [ToolMessage("r", tool_call_id=call_id) for call_id in ("c1", "c2")]
    way.invoke(scripted(), [HumanMessage("x"), message, *results])
    assert fault_server.bodies[1]["messages"][1]["tool_calls"] == calls


# Tool calls of odd habits (F6, F7): the rule is the core's, and tested there with every habit


@STREAMED
@pytest.mark.parametrize("call_id", [None, ""])
def test_calls_without_ids_run_and_are_answered(scripted, fault_server, way, call_id, is_streamed):
    @tool
    def f(x: int) -> str:
        """Do it."""
        return f"did {x}"

    calls = [function("f", json.dumps({"x": n}), call_id) for n in (1, 2)]
    fault_server.script(
        answer(is_streamed, "tool_calls", tool_calls=calls), answer(is_streamed, content="k")
    )
    agent = create_agent(scripted(streaming=is_streamed), [f])
    way.invoke(agent, {"messages": [("user", "x")]})
    _, assistant, *results = fault_server.bodies[1]["messages"]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 2
    assert [(r["tool_call_id"], r["content"]) for r in results] == [
        (ids[0], "did 1"),
        (ids[1], "did 2"),
    ]


STREAMS = {
    "two calls under one number": (
        [{"tool_calls": [{"index": 0, **function("f", json.dumps({"p": p}), "")}]} for p in "ab"],
        [("f", {"p": "a"}), ("f", {"p": "b"})],
    ),
    "two calls in one delta, without ids": (
        [{"tool_calls": [{"index": 0, **function("f", json.dumps({"p": p}), None)} for p in "ab"]}],
        [("f", {"p": "a"}), ("f", {"p": "b"})],
    ),
    "a name in pieces": (
        [
            {"tool_calls": [{"index": 0, **function("get_", "")}]},
            {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": "{}"}}]},
        ],
        [("get_weather", {})],
    ),
    "arguments before the real ones": (
        [
            {"tool_calls": [{"index": 0, **function("f", "{}")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}]},
        ],
        [("f", {"x": 1})],
    ),
    "two pieces of a call in one delta": (
        [
            {
                "tool_calls": [
                    {"index": 0, **function("f", "")},
                    {"index": 0, "function": {"arguments": '{"x": 1}'}},
                ]
            }
        ],
        [("f", {"x": 1})],
    ),
    "nothing but space for arguments": (
        [{"tool_calls": [{"index": 0, **function("f", " ")}]}],
        [("f", {})],
    ),
    "an id that comes late": (
        [
            {"tool_calls": [{"index": 0, **function("f", "", None)}]},
            {"tool_calls": [{"index": 0, "id": "late", "function": {"arguments": "{}"}}]},
        ],
        [("f", {})],
    ),
}


@pytest.mark.parametrize("habit", STREAMS)
def test_streamed_calls_are_whole_whatever_the_habit(scripted, fault_server, way, habit):
    deltas, calls = STREAMS[habit]
    fault_server.script(streamed(*deltas, finish_reason="tool_calls"))
    message = way.streamed(scripted(), "x")
    assert [(call["name"], call["args"]) for call in message.tool_calls] == calls
    assert len({call["id"] for call in message.tool_calls}) == len(calls)


CUSTOM = {"type": "custom", "custom": {"name": "run", "input": "1"}}


@pytest.mark.parametrize(
    "calls",
    [
        [function("f", '{"x": 1}', None), function("f", '{"x": 2}', None)],
        [function("f", '{"x": 1}'), function("f", '{"x": 2}')],
        [{"id": "c1", **CUSTOM}],
        [function("files_read")],
    ],
    ids=["no ids", "one id for both", "free text", "a name that was made fit"],
)
def test_each_call_is_one_content_block_though_a_part_of_it_comes_last(
    scripted, fault_server, way, calls
):
    tools = [{"title": "files.read", "description": "Read.", "type": "object", "properties": {}}]
    fault_server.script(
        answer(True, "tool_calls", tool_calls=calls), plain("tool_calls", tool_calls=calls)
    )
    model = scripted(output_version="v1").bind_tools(tools)
    message = way.streamed(model, "x")
    shown = [{k: block[k] for k in ("id", "name", "args", "type")} for block in message.content]
    assert shown == message.tool_calls == way.invoke(model, "x").tool_calls
    assert len(shown) == len(calls)
