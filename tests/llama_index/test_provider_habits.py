"""What real providers send, read for what it is: cut-off calls, signed fields, calls in pieces, refusals.

Each answer is tried plain and streamed, sync and async.
"""

from __future__ import annotations

import datetime as dt
import json
import pickle

import httpx
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llama_index_lunar import LunarLLM
from llama_index_lunar.messages import to_wire
from lunar_core import ConfigurationError, OutputTruncatedError, ToolChoiceIgnoredError
from tests.llama_index.support import user

CHATS = ["chat", "achat", "stream_chat", "astream_chat"]


class Service:
    """Answers in order, the last one again and again; keeps what it was sent. A message is an answer's message."""

    def __init__(self, *answers):
        self.answers, self.bodies = list(answers), []

    def handle(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not body.get("stream"):
            return httpx.Response(200, json=answer)
        return httpx.Response(
            200, text=as_events(answer), headers={"content-type": "text/event-stream"}
        )

    async def ahandle(self, request):
        return self.handle(request)

    def llm(self, **options):
        return LunarLLM(
            **{"model": "m", "api_key": "pk_test_habits", "max_retries": 0, **options},
            http_client=httpx.Client(transport=httpx.MockTransport(self.handle)),
            async_http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.ahandle)),
        )


def as_events(answer):
    """The same answer as a stream: the message in one piece, then the finish_reason."""
    (choice,) = answer["choices"]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(delta["tool_calls"])]
    end = {key: value for key, value in choice.items() if key != "message"}
    pieces = [
        {**answer, "choices": [{"index": 0, "delta": delta}]},
        {"choices": [{**end, "delta": {}}]},
    ]
    return "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n"


def answer(finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "a1", "choices": [choice]}


def call(name, arguments, call_id="c1", **more):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


async def last_of(llm, endpoint, messages, **kwargs):
    response = getattr(llm, endpoint)(messages, **kwargs)
    response = await response if endpoint.startswith("a") else response
    if "stream" not in endpoint:
        return response
    if endpoint.startswith("a"):
        return [each async for each in response][-1]
    return list(response)[-1]


# Cut off


CUT_OFF = [
    pytest.param("length", '{"path": "/home/u', id="by the token limit"),
    pytest.param("tool_calls", '{"path": "/home/u', id="though the reason says otherwise"),
    pytest.param(None, '{"path": "/home/u', id="without a reason"),
    pytest.param("length", "", id="before any argument"),
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
    from llama_index.core import PromptTemplate

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


@pytest.mark.parametrize("way", WAYS)
def test_a_growing_object_is_no_song_before_it_is_whole(way):
    pieces = ['{"title": "Bl', 'ue", "tags": ["a", "b', '"]}']
    llm = Service(object_answer(way, "stop", "")).llm(**WAYS[way])
    if way == "tool":
        deltas = [{"tool_calls": [{"index": 0, **call("Song", pieces[0])}]}] + [
            {"tool_calls": [{"index": 0, "function": {"arguments": text}}]} for text in pieces[1:]
        ]
    else:
        deltas = [{"content": text} for text in pieces]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"

    def handle(request):
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    llm = LunarLLM(
        "m",
        api_key="pk_test_habits",
        http_client=httpx.Client(transport=httpx.MockTransport(handle)),
        **WAYS[way],
    )
    from llama_index.core import PromptTemplate

    *growing, last = llm.stream_structured_predict(Song, PromptTemplate("A song"))
    partial = [each for each in growing if each.tags is None or each.tags != ["a", "b"]]
    assert [type(each) is Song for each in partial] == [False] * len(partial)
    assert last == Song(title="Blue", tags=["a", "b"])


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
        ToolChoiceIgnoredError, match=r"f: .* of m was 'No\.'.*by the prompt"
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


# What was signed


SIGNED_CALL = call("f", "{}", extra_content={"google": {"thought_signature": "S"}})
RESULT = ChatMessage("r", role="tool", additional_kwargs={"tool_call_id": "c1"})


async def kept(message):
    return message


async def through_pickle(message):
    return pickle.loads(pickle.dumps(message))


async def through_json(message):
    return ChatMessage.model_validate_json(message.model_dump_json())


async def through_memory(message):
    memory = ChatMemoryBuffer.from_defaults()
    await memory.aput_messages([*user("x"), message])
    return (await memory.aget())[1]


WAYS_TO_KEEP = [kept, through_pickle, through_json, through_memory]


@pytest.mark.parametrize("keep", WAYS_TO_KEEP)
@pytest.mark.parametrize("endpoint", CHATS)
async def test_what_was_signed_goes_back(endpoint, keep):
    signed = answer(
        "tool_calls",
        content="",
        tool_calls=[SIGNED_CALL],
        reasoning_content="think",
        reasoning_details=[{"type": "encrypted", "data": "D"}],
        provider_specific_fields={"a": 1},
        extra_content={"b": 2},
    )
    service = Service(signed, answer(content="k"))
    llm = service.llm()
    first = await last_of(llm, endpoint, user("x"))
    await last_of(llm, endpoint, [*user("x"), await keep(first.message), RESULT])
    (sent,) = [m for m in service.bodies[1]["messages"] if m["role"] == "assistant"]
    assert sent["tool_calls"] == [SIGNED_CALL]
    assert sent["reasoning_content"] == "think"
    assert sent["reasoning_details"] == [{"type": "encrypted", "data": "D"}]
    assert sent["provider_specific_fields"] == {"a": 1}
    assert sent["extra_content"] == {"b": 2}


@pytest.mark.parametrize("endpoint", CHATS)
async def test_another_model_is_not_sent_what_the_first_has_signed(endpoint):
    signed = answer("tool_calls", content="", tool_calls=[SIGNED_CALL], reasoning_content="think")
    service = Service(signed, answer(content="k"))
    first = await last_of(service.llm(), endpoint, user("x"))
    history = [*user("x"), first.message, RESULT]
    await last_of(service.llm(model="other"), endpoint, history)
    await last_of(service.llm(model="provider/m"), endpoint, history)
    other, same = [body["messages"][1] for body in service.bodies[1:]]
    assert other == {"role": "assistant", "content": "", "tool_calls": [call("f", "{}")]}
    assert same["tool_calls"] == [SIGNED_CALL]


@pytest.mark.parametrize(
    ("replay", "in_loop", "afterwards"),
    [("tools", True, False), ("never", False, False), ("always", True, True)],
)
async def test_reasoning_goes_back_as_far_as_it_was_told_to(replay, in_loop, afterwards):
    thinking = answer("tool_calls", content="", reasoning="think", tool_calls=[call("f", "{}")])
    service = Service(thinking, answer(content="k"))
    llm = service.llm(replay_reasoning=replay)
    first = llm.chat(user("x"))
    loop = [*user("x"), first.message, RESULT]
    llm.chat(loop)
    llm.chat([*loop, ChatMessage("k", role="assistant"), *user("and?")])
    sent = [body["messages"][1].get("reasoning_content") for body in service.bodies[1:]]
    assert sent == ["think" if in_loop else None, "think" if afterwards else None]


def test_thoughts_that_another_vendor_signed_are_not_sent():
    block = ThinkingBlock(content="hm", additional_information={"signature": "S"})
    tool = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={})
    service = Service(answer(content="k"))
    service.llm().chat([*user("x"), ChatMessage(role="assistant", blocks=[block, tool]), RESULT])
    assert "reasoning_content" not in service.bodies[0]["messages"][1]


# Odd calls


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
    """A stream of tool-call pieces, one delta each."""
    events = [{"choices": [{"index": 0, "delta": {"tool_calls": [p]}}]} for p in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"


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
    text = deltas(*pieces)
    for endpoint in ("stream_chat", "astream_chat"):
        service = Service(answer())
        service.handle = lambda request, text=text: httpx.Response(
            200, text=text, headers={"content-type": "text/event-stream"}
        )
        llm = service.llm()
        last = await last_of(llm, endpoint, user("x"))
        found = llm.get_tool_calls_from_response(last)
        assert [(each.tool_name, each.tool_kwargs) for each in found] == calls
        assert len({each.tool_id for each in found}) == len(calls)


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


# Histories from elsewhere


def test_of_an_assistants_turn_only_its_text_is_sent():
    blocks = [
        TextBlock(text="found"),
        ImageBlock(url="https://a.example/a.png"),
        AudioBlock(audio=b"UklGRg==", format="wav"),
        VideoBlock(url="https://a.example/a.mp4"),
        DocumentBlock(data=b"JVBERi0=", title="a.pdf"),
    ]
    assert to_wire([ChatMessage(role="assistant", blocks=blocks)]) == [
        {"role": "assistant", "content": "found"}
    ]


def test_a_block_that_cannot_be_sent_is_refused_by_its_place_before_anything_is_sent():
    service = Service(answer(content="k"))

    class Foreign(TextBlock):
        """A block of another package's."""

    message = ChatMessage("x", role="user")
    message.blocks = [object()]
    with pytest.raises(ConfigurationError, match=r"messages\[1\]: "):
        service.llm().chat([ChatMessage("a", role="user"), message])
    assert service.bodies == []


def test_calls_without_a_name_are_left_out_with_their_results():
    blocks = [
        ToolCallBlock(tool_call_id="c1", tool_name="", tool_kwargs="{}"),
        ToolCallBlock(tool_call_id="c2", tool_name="f", tool_kwargs="{}"),
    ]
    second = ChatMessage("r2", role="tool", additional_kwargs={"tool_call_id": "c2"})
    wire = to_wire([*user("x"), ChatMessage(role="assistant", blocks=blocks), RESULT, second])
    assert [call["id"] for call in wire[1]["tool_calls"]] == ["c2"]
    assert [message.get("tool_call_id") for message in wire[2:]] == ["c2"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (dt.date(2026, 1, 1), '"2026-01-01"'),
        ({1}, "[1]"),
        (b"a", '"a"'),
        (float("nan"), "null"),
        (float("inf"), "null"),
        (Song(title="Blue"), '{"title": "Blue", "tags": []}'),
    ],
    ids=["date", "set", "bytes", "NaN", "infinity", "a pydantic object"],
)
def test_arguments_that_a_program_wrote_are_written_as_pydantic_writes_json(value, written):
    block = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"v": value})
    (wire,) = to_wire([ChatMessage(role="assistant", blocks=[block])])
    assert wire["tool_calls"][0]["function"]["arguments"] == f'{{"v": {written}}}'


def test_arguments_that_json_cannot_carry_are_refused_by_their_place():
    block = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"v": object()})
    with pytest.raises(ConfigurationError, match=r"messages\[1\]"):
        to_wire([*user("x"), ChatMessage(role="assistant", blocks=[block])])


@pytest.mark.parametrize("endpoint", CHATS)
async def test_half_an_emoji_ends_no_conversation(endpoint):
    half = answer("tool_calls", content="", tool_calls=[call("f", '{"x": "\\ud83d"}')])
    service = Service(half, answer(content="k"))
    llm = service.llm()
    first = await last_of(llm, endpoint, user("x"))
    result = ChatMessage("caf\udce9", role="tool", additional_kwargs={"tool_call_id": "c1"})
    last = await last_of(llm, endpoint, [*user("x"), first.message, result])
    assert last.message.content == "k"
    assert service.bodies[1]["messages"][2]["content"] == "caf\ufffd"


# Small ones


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
    from lunar_core import LunarError

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
    streamed = f"data: {json.dumps({**body, 'usage': usage})}\n\ndata: [DONE]\n\n"

    def handle(request):
        if json.loads(request.content).get("stream"):
            return httpx.Response(200, text=streamed, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json={**body, "usage": usage})

    service = Service(body)
    service.handle = handle
    last = await last_of(service.llm(), endpoint, user("x"))
    assert not last.message.content
    assert last.additional_kwargs["finish_reason"] == "content_filter"
    assert last.additional_kwargs["total_cost_usd"] == 0.001
