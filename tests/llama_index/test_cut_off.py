"""What did not come whole is never handed out as whole, and a tool that was forced is not ignored in silence.

Each answer is tried plain and streamed, sync and async.
"""

from __future__ import annotations

import pickle

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    ToolCallBlock,
)
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from lunar_core import OutputTruncatedError, ToolChoiceIgnoredError
from tests.llama_index.provider import CHATS, Service, answer, call, last_of
from tests.llama_index.support import user

CUT_OFF = [
    pytest.param("length", '{"path": "/home/u', id="by the token limit"),
    pytest.param("tool_calls", '{"path": "/home/u', id="though the reason says otherwise"),
    pytest.param(None, '{"path": "/home/u', id="without a reason"),
    pytest.param("length", "", id="before any argument"),
    pytest.param("MAX_TOKENS", "", id="before any argument, in Gemini's word"),
    pytest.param("tool_calls", "{'path': '/home'}", id="no JSON"),
    pytest.param("tool_calls", '"/home"', id="no object"),
]


@pytest.mark.parametrize("endpoint", CHATS)
@pytest.mark.parametrize(("finish", "arguments"), CUT_OFF)
async def test_a_call_that_did_not_come_whole_is_no_selection(endpoint, finish, arguments):
    llm = Service(answer(finish, content="", tool_calls=[call("rm", arguments)])).llm()
    last = await last_of(llm, endpoint, user("x"))
    assert llm.get_tool_calls_from_response(last, error_on_no_tool_call=False) == []
    assert not any(isinstance(block, ToolCallBlock) for block in last.message.blocks)
    (invalid,) = last.additional_kwargs["invalid_tool_calls"]
    assert invalid["function"] == {"name": "rm", "arguments": arguments}
    with pytest.raises(ValueError, match=r"token limit|no JSON|ends before"):
        llm.get_tool_calls_from_response(last)


@pytest.mark.parametrize("endpoint", CHATS)
async def test_of_several_calls_only_the_one_that_was_cut_off_is_kept_back(endpoint):
    calls = [call("f", "", "c1"), call("g", '{"a": 1}', "c2"), call("h", '{"a', "c3")]
    llm = Service(answer("length", content="", tool_calls=calls)).llm()
    last = await last_of(llm, endpoint, user("x"))
    names = [each.tool_name for each in llm.get_tool_calls_from_response(last)]
    assert names == ["f", "g"]


@pytest.mark.parametrize("endpoint", CHATS)
async def test_neither_a_custom_call_that_was_cut_off_nor_one_without_a_name_is_a_selection(
    endpoint,
):
    custom = {"id": "c2", "type": "custom", "custom": {"name": "run", "input": "rm -rf /home/"}}
    calls = [call("", "{}", "c1"), custom]
    llm = Service(answer("length", content="", tool_calls=calls)).llm()
    last = await last_of(llm, endpoint, user("x"))
    assert llm.get_tool_calls_from_response(last, error_on_no_tool_call=False) == []
    assert [each["id"] for each in last.additional_kwargs["invalid_tool_calls"]] == ["c1", "c2"]


# LlamaIndex's agents look at each of their own attributes, pydantic's deprecated ones included.
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")
async def test_no_agent_runs_a_tool_with_half_its_arguments():
    ran = []

    def rm(path: str = "/") -> str:
        """Remove a path."""
        ran.append(path)
        return "gone"

    tool = FunctionTool.from_defaults(rm)
    for streaming in (True, False):
        half = answer("length", content="", tool_calls=[call("rm", '{"path": "/home/u')])
        llm = Service(half, answer(content="done")).llm()
        await FunctionAgent(tools=[tool], llm=llm, streaming=streaming).run("x")
        with pytest.raises(OutputTruncatedError, match="max_tokens=9"):
            Service(half).llm(max_tokens=9).predict_and_call([tool], user_msg="x")
    assert ran == []


class Song(BaseModel):
    """A song."""

    title: str
    tags: list[str] = []


WAYS = {
    "tool": {},
    "schema": {"should_use_structured_outputs": True},
    "prompt": {"is_function_calling_model": False},
}
FORMS = [
    "structured_predict",
    "astructured_predict",
    "stream_structured_predict",
    "astream_structured_predict",
]


def object_answer(way, finish, text):
    if way == "tool":
        return answer(finish, content="", tool_calls=[call("Song", text)])
    return answer(finish, content=text)


async def objects(llm, form):
    """Every object of a form: one, or all that a stream grows through."""
    result = getattr(llm, form)(Song, PromptTemplate("A song"))
    result = await result if form.startswith("a") else result
    if "stream" not in form:
        return [result]
    if form.startswith("a"):
        return [each async for each in result]
    return list(result)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("finish", ["length", "stop", None])
async def test_an_object_that_was_cut_off_is_an_error_that_names_the_token_limit(form, way, finish):
    half = '{"title": "Blue", "tags": ["a", "b'
    llm = Service(object_answer(way, finish, half)).llm(max_tokens=12, **WAYS[way])
    with pytest.raises(OutputTruncatedError, match="max_tokens=12") as caught:
        await objects(llm, form)
    assert isinstance(caught.value, ValueError)
    assert caught.value.output == half
    assert caught.value.finish_reason == finish
    assert caught.value.token_limit == 12
    assert caught.value.partial.choices[0].finish_reason == finish
    assert caught.value.call_id
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.output, again.token_limit, str(again)) == (half, 12, str(caught.value))


@pytest.mark.parametrize("way", WAYS)
def test_a_growing_object_is_no_song_before_it_is_whole(way):
    pieces = ['{"title": "Bl', 'ue", "tags": ["a", "b', '"]}']
    if way == "tool":
        deltas = [{"tool_calls": [{"index": 0, **call("Song", pieces[0])}]}] + [
            {"tool_calls": [{"index": 0, "function": {"arguments": text}}]} for text in pieces[1:]
        ]
    else:
        deltas = [{"content": text} for text in pieces]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    llm = Service(events).llm(**WAYS[way])
    *growing, last = llm.stream_structured_predict(Song, PromptTemplate("A song"))
    partial = [each for each in growing if each.tags is None or each.tags != ["a", "b"]]
    assert [type(each) is Song for each in partial] == [False] * len(partial)
    assert last == Song(title="Blue", tags=["a", "b"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "refusal"])
async def test_an_answer_that_was_withheld_is_told_as_one(form, reason):
    llm = Service(answer(reason, content="")).llm()
    with pytest.raises(ValueError, match=f"withheld.*'{reason}'"):
        await objects(llm, form)


@pytest.mark.parametrize("form", FORMS)
async def test_a_refusal_is_told_as_one(form):
    llm = Service(answer(content=None, refusal="I can't sing")).llm()
    with pytest.raises(ValueError, match=r"refused.*I can't sing"):
        await objects(llm, form)


# Forced tools


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_forced_tool_that_was_ignored_is_an_error_that_names_the_model_and_a_way_out(
    endpoint,
):
    service = Service(answer(content="No."))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(
        ToolChoiceIgnoredError, match=r"f: .* of m was 'No\.'.*in the prompt"
    ) as caught:
        await last_of(service.llm(), endpoint, user("x"), tools=tools, tool_choice="required")
    assert caught.value.partial.choices[0].message.content == "No."
    assert isinstance(caught.value, ValueError)
    assert len(service.bodies) == 1


@pytest.mark.parametrize("endpoint", CHATS)
@pytest.mark.parametrize("choice", ["auto", "none", None])
async def test_a_tool_that_was_offered_may_be_left_alone(endpoint, choice):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    llm = Service(answer(content="No.")).llm()
    last = await last_of(llm, endpoint, user("x"), tools=tools, tool_choice=choice)
    assert last.message.content == "No."
