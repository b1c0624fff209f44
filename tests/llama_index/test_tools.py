"""Tools: what is asked, and every way in which calls come back."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock

from llama_index_lunar import LunarLLM
from lunar_core import ConfigurationError
from tests.faults_steps import DONE, chunk, completion, reply, sse
from tests.llama_index.support import TIME, WEATHER, ask, request_body, user

TOOLS = [WEATHER, TIME]
QUESTION = "What is the weather and the time in Paris?"
FORMS = ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools"]


async def with_tools(llm, form, *args, **kwargs):
    """The last response of a chat with tools."""
    answer = getattr(llm, form)(*args, **kwargs)
    if form.startswith("a"):
        answer = await answer
    if "stream" not in form:
        return answer
    if form.startswith("a"):
        return [each async for each in answer][-1]
    return list(answer)[-1]


def prepare(**kwargs):
    llm = LunarLLM(kwargs.pop("model", "gpt-4o"), api_key="k", strict=kwargs.pop("strict", False))
    return llm._prepare_chat_with_tools(**{"tools": TOOLS, "user_msg": "hi", **kwargs})


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ({}, "auto"),
        ({"tool_required": True}, "required"),
        ({"tool_required": False}, "auto"),
        ({"tool_choice": None, "tool_required": True}, "required"),
        ({"tool_choice": "none", "tool_required": True}, "none"),
        ({"tool_choice": "required"}, "required"),
        ({"tool_choice": "any"}, "required"),
        ({"tool_choice": "get_time"}, {"type": "function", "function": {"name": "get_time"}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            {"type": "function", "function": {"name": "get_time"}},
        ),
    ],
)
def test_the_choice_of_tools_is_sent_in_the_form_of_the_api(told, sent):
    assert prepare(**told)["tool_choice"] == sent


def test_a_choice_of_a_tool_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="no_such_tool"):
        prepare(tool_choice="no_such_tool")


def test_tools_are_described_without_noise():
    described = prepare()["tools"][0]
    assert described["function"].keys() == {"name", "description", "parameters"}
    assert "additionalProperties" not in described["function"]["parameters"]
    assert described["function"]["name"] == "get_weather"


def test_strict_tools_are_closed():
    for told in ({"strict": True}, {"model": "gpt-4o", "strict": True}):
        function = prepare(**told)["tools"][0]["function"]
        assert function["strict"] is True
        assert function["parameters"]["additionalProperties"] is False
        assert function["parameters"]["required"] == ["city"]


def test_parallel_calls_are_allowed_or_not_on_the_wire():
    assert prepare(allow_parallel_tool_calls=True)["parallel_tool_calls"] is True
    assert prepare()["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in prepare(model="openai/o3-mini")


def test_without_tools_nothing_about_them_is_sent():
    prepared = prepare(tools=[], tool_required=True)
    assert prepared["tools"] is None
    assert prepared["tool_choice"] is None
    assert "parallel_tool_calls" not in prepared


def test_the_callers_history_stays_as_it_is(llm):
    history = [ChatMessage("Be brief", role="system")]
    llm.chat_with_tools(TOOLS, user_msg=QUESTION, chat_history=history)
    assert len(history) == 1
    prepared = prepare(user_msg="hi", chat_history=history)
    assert [m.content for m in prepared["messages"]] == ["Be brief", "hi"]
    assert len(history) == 1


@pytest.mark.parametrize("form", FORMS)
async def test_all_four_forms_call_tools(form, llm, lunar_sandbox):
    last = await with_tools(llm, form, TOOLS, QUESTION, allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(last)
    assert [(c.tool_name, c.tool_kwargs) for c in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {"city": "Paris"}),
    ]
    blocks = [b for b in last.message.blocks if isinstance(b, ToolCallBlock)]
    plain = last.message.additional_kwargs["tool_calls"]
    assert (
        [b.tool_call_id for b in blocks] == [c["id"] for c in plain] == [c.tool_id for c in calls]
    )
    assert [json.loads(b.tool_kwargs) for b in blocks] == [{"city": "Paris"}] * 2
    assert json.loads(json.dumps(plain)) == plain
    (bill,) = lunar_sandbox.billed(at_least=1)
    assert last.additional_kwargs["total_cost_usd"] == bill["total_cost_usd"]
    assert last.additional_kwargs["finish_reason"] == "tool_calls"
    body = request_body(lunar_sandbox.requests()[0])
    assert body["tool_choice"] == "auto"
    assert "verbose" not in body


@pytest.mark.parametrize("form", FORMS)
async def test_without_leave_for_parallel_calls_there_is_one(form, llm):
    last = await with_tools(llm, form, TOOLS, QUESTION)
    assert len(llm.get_tool_calls_from_response(last)) == 1


async def test_a_model_that_calls_several_tools_all_the_same_is_held_to_the_first(llm_on, faults):
    calls = [tool_call("a", "get_weather"), tool_call("b", "get_time")]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    faults.always(reply(json=completion(choices=[{"index": 0, "message": message}])))
    answer = llm_on(faults).chat_with_tools(TOOLS, "hi")
    assert [b.tool_call_id for b in answer.message.blocks] == ["a"]
    assert [c["id"] for c in answer.message.additional_kwargs["tool_calls"]] == ["a"]


def test_no_tool_call_is_an_error_unless_told_otherwise(llm):
    answer = llm.chat(user("Say hello"))
    with pytest.raises(ValueError, match="at least one tool call") as caught:
        llm.get_tool_calls_from_response(answer)
    for word in ("gpt-4o-mini", "'hello'", "is_function_calling_model=False"):
        assert word in str(caught.value)
    assert llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False) == []


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": {"b": [1]}}', {"a": {"b": [1]}}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        ("null", {}),
        ("[1]", {}),
        ("not json", {}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": 1, "b', {"a": 1}),
    ],
)
@pytest.mark.parametrize("as_block", [True, False], ids=["block", "plain"])
def test_arguments_are_read_however_they_are_written(arguments, read, as_block):
    llm = LunarLLM("gpt-4o", api_key="k")
    if as_block:
        message = ChatMessage(
            role="assistant",
            blocks=[ToolCallBlock(tool_call_id="x", tool_name="f", tool_kwargs=arguments)],
        )
    else:
        call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": arguments}}
        message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [call]})
    (found,) = llm.get_tool_calls_from_response(ChatResponse(message=message))
    assert (found.tool_id, found.tool_name, found.tool_kwargs) == ("x", "f", read)


# Streams


def tool_call(call_id, name, arguments="{}"):
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def delta(*pieces, **fields):
    return chunk(choices=[{"index": 0, "delta": {"tool_calls": list(pieces), **fields}}])


def piece(index=None, call_id=None, name=None, arguments=None):
    function = {"name": name, "arguments": arguments}
    told = {"index": index, "id": call_id, "type": "function" if call_id else None}
    told["function"] = {key: value for key, value in function.items() if value is not None}
    return {key: value for key, value in told.items() if value is not None}


STYLES = {
    "piece by piece": [
        delta(piece(0, "a", "get_weather", "")),
        delta(piece(0, arguments='{"city": ')),
        delta(piece(0, arguments='"Paris"}')),
        delta(piece(1, "b", "get_time", "")),
        delta(piece(1, arguments='{"city": "Rome"}')),
    ],
    "interleaved": [
        delta(piece(0, "a", "get_weather", "")),
        delta(piece(1, "b", "get_time", "")),
        delta(piece(1, arguments='{"city": ')),
        delta(piece(0, arguments='{"city": ')),
        delta(piece(0, arguments='"Paris"}')),
        delta(piece(1, arguments='"Rome"}')),
    ],
    "several in a chunk": [
        delta(piece(0, "a", "get_weather", '{"city": '), piece(1, "b", "get_time", '{"city": ')),
        delta(piece(0, arguments='"Paris"}'), piece(1, arguments='"Rome"}')),
    ],
    "all at once": [
        delta(
            piece(0, "a", "get_weather", '{"city": "Paris"}'),
            piece(1, "b", "get_time", '{"city": "Rome"}'),
        )
    ],
    "ids repeated": [
        delta(piece(0, "a", "get_weather", '{"city": ')),
        delta(piece(0, "a", "get_weather", '"Paris"}')),
        delta(piece(1, "b", "get_time", '{"city": ')),
        delta(piece(1, "b", "get_time", '"Rome"}')),
    ],
    "every call numbered 0": [
        delta(piece(0, "a", "get_weather", '{"city": "Paris"}')),
        delta(piece(0, "b", "get_time", '{"city": "Rome"}')),
    ],
    "no numbers": [
        delta(piece(None, "a", "get_weather", '{"city": ')),
        delta(piece(None, None, None, '"Paris"}')),
        delta(piece(None, "b", "get_time", '{"city": "Rome"}')),
    ],
    "numbers out of order": [
        delta(piece(1, "b", "get_time", '{"city": "Rome"}')),
        delta(piece(0, "a", "get_weather", '{"city": "Paris"}')),
    ],
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("endpoint", ["stream_chat", "astream_chat"])
async def test_tool_calls_arrive_whole_whatever_the_upstreams_habits(
    endpoint, style, llm_on, faults
):
    faults.always(sse(*STYLES[style], chunk(finish="tool_calls"), DONE))
    llm = llm_on(faults)
    responses = await ask(llm, endpoint)
    calls = llm.get_tool_calls_from_response(responses[-1])
    assert [(c.tool_id, c.tool_name, c.tool_kwargs) for c in calls] == [
        ("a", "get_weather", {"city": "Paris"}),
        ("b", "get_time", {"city": "Rome"}),
    ]
    for response in responses:  # each can be read by itself, as agents do
        llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    assert responses[-1].additional_kwargs["finish_reason"] == "tool_calls"


async def test_a_call_whose_upstream_gave_no_id_gets_one(llm_on, faults):
    nameless = {"type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [nameless]}
    plain = reply(json=completion(choices=[{"index": 0, "message": message}]))
    faults.script(plain, sse(delta(piece(0, None, "get_time", "{}")), DONE))
    for endpoint in ("chat", "stream_chat"):
        answer = (await ask(llm_on(faults), endpoint))[-1].message
        (block,) = answer.blocks
        assert block.tool_call_id.startswith("call_")
        assert block.tool_call_id == answer.additional_kwargs["tool_calls"][0]["id"]


async def test_text_and_tool_calls_stand_side_by_side(llm_on, faults):
    faults.always(sse(chunk("I look. "), *STYLES["all at once"], DONE))
    last = (await ask(llm_on(faults), "astream_chat"))[-1]
    assert [b.block_type for b in last.message.blocks] == ["text", "tool_call", "tool_call"]
    assert last.message.content == "I look. "


@pytest.mark.parametrize("form", ["predict_and_call", "apredict_and_call"])
async def test_a_tool_is_called_and_its_output_returned(form, llm):
    answer = getattr(llm, form)([WEATHER], user_msg="What is the weather in Paris?")
    answer = await answer if form.startswith("a") else answer
    assert str(answer) == "sunny in Paris"


def test_a_whole_loop_of_tools_is_understood_by_the_service(llm, lunar_sandbox):
    history = user("What is the weather in Paris?")
    asked = llm.chat_with_tools([WEATHER], chat_history=history)
    (call,) = llm.get_tool_calls_from_response(asked)
    result = ChatMessage(
        get_weather_of(call), role="tool", additional_kwargs={"tool_call_id": call.tool_id}
    )
    told = llm.chat_with_tools([WEATHER], chat_history=[*history, asked.message, result])
    assert told.message.content == "Here is what I found: sunny in Paris"


def get_weather_of(call):
    return WEATHER(**call.tool_kwargs).content
