"""What a model has signed, and its reasoning in a tool loop, goes back to it and to no other model."""

from __future__ import annotations

import pickle

import httpx
import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.memory import ChatMemoryBuffer

from tests.llama_index.provider import CHATS, RESULT, Service, answer, call, last_of
from tests.llama_index.support import user

SIGNED_CALL = call("f", "{}", extra_content={"google": {"thought_signature": "S"}})


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
    thinking = answer(
        "tool_calls", content="", reasoning_content="think", tool_calls=[call("f", "{}")]
    )
    service = Service(thinking, answer(content="k"))
    llm = service.llm(replay_reasoning=replay)
    first = llm.chat(user("x"))
    loop = [*user("x"), first.message, RESULT]
    llm.chat(loop)
    llm.chat([*loop, ChatMessage("k", role="assistant"), *user("and?")])
    sent = [body["messages"][1].get("reasoning_content") for body in service.bodies[1:]]
    assert sent == ["think" if in_loop else None, "think" if afterwards else None]


@pytest.mark.parametrize("endpoint", CHATS)
@pytest.mark.parametrize(
    ("spoken", "sent"),
    [
        ({"reasoning": "think"}, {"reasoning"}),
        ({"reasoning_content": "think"}, {"reasoning_content"}),
        ({"reasoning_content": "think", "reasoning": "think"}, {"reasoning_content"}),
        ({"content": [{"type": "thinking", "thinking": [{"text": "think"}]}]}, set()),
    ],
    ids=["vLLM", "DeepSeek", "both", "Mistral"],
)
async def test_reasoning_goes_back_under_the_name_that_it_came_by(endpoint, spoken, sent):
    service = Service(answer("tool_calls", tool_calls=[call("f", "{}")], **spoken), answer())
    first = await last_of(service.llm(), endpoint, user("x"))
    message = ChatMessage.model_validate_json(first.message.model_dump_json())
    assert [b.content for b in message.blocks if isinstance(b, ThinkingBlock)] == ["think"]
    for replay in ("tools", "always"):
        service.llm(replay_reasoning=replay).chat([*user("x"), message, RESULT])
        turn = service.bodies[-1]["messages"][1]
        assert turn.keys() & {"reasoning", "reasoning_content", "thinking"} == sent
        assert all(turn[name] == "think" for name in sent)


PIECES = [
    ("thinking_blocks", "thinking", "thinking"),
    ("reasoning_details", "reasoning.text", "text"),
]


@pytest.mark.parametrize("endpoint", ["stream_chat", "astream_chat"])
@pytest.mark.parametrize(("name", "kind", "text"), PIECES, ids=["LiteLLM", "OpenRouter"])
async def test_what_was_signed_in_pieces_goes_back_whole(endpoint, name, kind, text):
    deltas = [
        {name: [{"type": kind, text: "h"}]},
        {name: [{"type": kind, text: "m"}]},
        {name: [{"type": kind, "signature": "S"}]},
        {name: [{"type": kind, text: "and"}]},
        {"tool_calls": [{"index": 0, **call("f", "{}")}]},
    ]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    service = Service([*events, end], answer())
    llm = service.llm()
    first = await last_of(llm, endpoint, user("x"))
    llm.chat([*user("x"), first.message, RESULT])
    whole = [{"type": kind, text: "hm", "signature": "S"}, {"type": kind, text: "and"}]
    assert service.bodies[1]["messages"][1][name] == whole


def test_thoughts_that_another_vendor_signed_are_not_sent():
    block = ThinkingBlock(content="hm", additional_information={"signature": "S"})
    tool = ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={})
    service = Service(answer(content="k"))
    service.llm().chat([*user("x"), ChatMessage(role="assistant", blocks=[block, tool]), RESULT])
    assert "reasoning_content" not in service.bodies[0]["messages"][1]


class FailingOnce(Service):
    """Refuses the second request with a 503."""

    def handle(self, request):
        response = super().handle(request)
        return httpx.Response(503, json={"detail": "busy"}) if len(self.bodies) == 2 else response


@pytest.mark.parametrize("endpoint", CHATS)
async def test_a_fallback_is_not_sent_what_the_first_model_has_signed(endpoint):
    signed = answer("tool_calls", content="", tool_calls=[SIGNED_CALL], reasoning_content="think")
    service = FailingOnce(signed, answer(content="k"))
    llm = service.llm(fallbacks=["other"])
    first = await last_of(llm, endpoint, user("x"))
    await last_of(llm, endpoint, [*user("x"), first.message, RESULT])
    _, own, other = service.bodies
    assert own["messages"][1]["tool_calls"] == [SIGNED_CALL]
    assert own["messages"][1]["reasoning_content"] == "think"
    assert other["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call("f", "{}")],
    }


class Routing(Service):
    """A router that chooses each of its models in turn, and models that answer."""

    def __init__(self, models, *answers):
        super().__init__(*answers)
        self.models = list(models)

    def handle(self, request):
        if request.url.path.endswith("/router"):
            route = {"selected_model": self.models.pop(0), "selected_provider": "p"}
            return httpx.Response(200, json={"routing": route, "choices": []})
        return super().handle(request)


@pytest.mark.parametrize("endpoint", CHATS)
@pytest.mark.parametrize(("sticky", "is_sent"), [("tools", True), ("off", False)])
async def test_what_a_routed_model_signed_goes_back_to_it_while_the_router_stays_with_it(
    sticky, is_sent, endpoint
):
    signed = answer("tool_calls", content="", tool_calls=[SIGNED_CALL], reasoning_content="think")
    service = Routing(["one", "two"], signed, answer(content="k"))
    llm = service.llm(model="router", sticky=sticky)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    first = await last_of(llm, endpoint, user("x"), tools=tools)
    await last_of(llm, endpoint, [*user("x"), first.message, RESULT], tools=tools)
    assert [body["model"] for body in service.bodies] == ["one", "one" if is_sent else "two"]
    sent = service.bodies[1]["messages"][1]
    assert ("reasoning_content" in sent) is is_sent
    assert ("extra_content" in sent["tool_calls"][0]) is is_sent


@pytest.mark.parametrize("endpoint", CHATS)
async def test_what_was_signed_goes_back_though_each_turn_uses_the_same_id(endpoint):
    signed = answer("tool_calls", content="", tool_calls=[SIGNED_CALL])
    service = Service(signed, signed, answer(content="k"))
    llm, history = service.llm(), user("x")
    for _ in range(2):
        called = await last_of(llm, endpoint, history)
        history = [*history, called.message, RESULT]
    await last_of(llm, endpoint, history)
    _, first, result, second, again = service.bodies[2]["messages"]
    calls = [first["tool_calls"][0], second["tool_calls"][0]]
    assert [call["extra_content"] for call in calls] == [SIGNED_CALL["extra_content"]] * 2
    ids = [call["id"] for call in calls]
    assert ids == [result["tool_call_id"], again["tool_call_id"]]
    assert len(set(ids)) == 2
