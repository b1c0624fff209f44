"""``model="router"``: a full citizen. Nothing that was said is dropped on the way, and tool loops stay together."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

import lunar_core
from langchain_lunar import ChatLunar
from langchain_lunar.requests import SENT_FIELDS
from langchain_lunar.router.sticky import find_sticky_model
from tests.langchain.sent_fields import SENT

MODELS = ["gpt-4o-mini", "mistral-small-latest"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def sent(lunar_sandbox):
    """The path of each request, and its body."""
    return [
        (request["path"].rpartition("/v1/")[2], json.loads(request["body"]))
        for request in lunar_sandbox.requests()
    ]


# What is sent

FIELDS = {
    **SENT,
    "models": MODELS,
    "cost_weight": 0.5,
    "extra_body": {"metadata": {"a": "b"}},
}
ANYTHING_ELSE = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "none",
    "response_format": {"type": "json_object"},
    "parallel_tool_calls": False,
    "service_tier": "flex",
}
ROUTERS_OWN = {"models", "cost_weight", "temperature", "max_tokens"}


def test_every_field_of_the_model_is_tried_here():
    assert FIELDS.keys() == set(SENT_FIELDS)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", FIELDS | ANYTHING_ELSE)
def test_each_field_reaches_the_service(chat, way, lunar_sandbox, name, streamed):
    value = (FIELDS | ANYTHING_ELSE)[name]
    together = {"logprobs": True} if name == "top_logprobs" else {}
    if name in {"tool_choice", "parallel_tool_calls"}:
        together |= {"tools": ANYTHING_ELSE["tools"]}
    ask = way.stream if streamed else way.invoke
    ask(chat("router"), "Say some JSON", **{name: value}, **together)
    requests = sent(lunar_sandbox)
    wanted = value if name == "extra_body" else {name: value}
    assert any(wanted.items() <= body.items() for _, body in requests)
    assert len(requests) == (1 if name in ROUTERS_OWN and not streamed else 2)


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_the_constructor_does_too(chat, lunar_sandbox, name):
    together = {"logprobs": True} if name == "top_logprobs" else {}
    chat("router", **{name: FIELDS[name]}, **together).invoke("hi")
    wanted = FIELDS[name] if name == "extra_body" else {name: FIELDS[name]}
    assert any(wanted.items() <= body.items() for _, body in sent(lunar_sandbox))


PICTURE = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}


@pytest.mark.parametrize(
    ("message", "turn"),
    [
        (
            HumanMessage([{"type": "text", "text": "What is this?"}, PICTURE]),
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]},
        ),
        (HumanMessage("hi", name="ann"), {"role": "user", "content": "hi", "name": "ann"}),
    ],
    ids=["picture", "name"],
)
def test_a_message_that_the_router_cannot_carry_reaches_the_model(
    chat, lunar_sandbox, message, turn
):
    chat("router").invoke([SystemMessage("Be brief."), message])
    (_, decided), (path, body) = sent(lunar_sandbox)
    assert decided["execute"] is False
    assert path == "chat/completions"
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, turn]


def test_a_plain_question_is_one_request(chat, way, lunar_sandbox):
    answer = way.invoke(chat("router", models=MODELS, cost_weight=0.3), "hi")
    ((path, body),) = sent(lunar_sandbox)
    assert path == "router"
    assert (body["models"], body["cost_weight"]) == (MODELS, 0.3)
    assert answer.response_metadata["requested_model"] == "router"
    assert answer.response_metadata["model_name"] in MODELS
    assert answer.response_metadata["routing"]["selected_model"] in MODELS


def test_a_call_may_name_its_model(chat, way, lunar_sandbox):
    model = chat("router", models=MODELS, cost_weight=0.3)
    answer = way.invoke(model, "hi", model="gpt-4o")
    ((path, body),) = sent(lunar_sandbox)
    assert (path, body["model"]) == ("chat/completions", "gpt-4o")
    assert not {"models", "cost_weight"} & body.keys()
    assert "routing" not in answer.response_metadata


def test_a_call_may_be_routed_although_the_model_is_named(chat, lunar_sandbox):
    answer = chat("gpt-4o").invoke("hi", model="router", models=MODELS)
    assert answer.response_metadata["routing"]["selected_model"] in MODELS


def test_a_choice_of_one_is_refused(chat, lunar_sandbox):
    with pytest.raises(lunar_core.ConfigurationError, match="models"):
        chat("router", models=["gpt-4o"]).invoke("hi")
    assert lunar_sandbox.requests() == []


def test_what_a_routed_call_cost_is_what_was_billed(chat, way, lunar_sandbox):
    model = chat("router")
    answers = [way.invoke(model, "hi"), way.streamed(model, "hi"), way.invoke(model, "hi", seed=1)]
    told = [answer.response_metadata["total_cost_usd"] for answer in answers]
    assert told == [
        bill["total_cost_usd"] for bill in lunar_sandbox.billed() if bill["total_cost_usd"]
    ]


# Staying with a model

CALL = {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1", "type": "tool_call"}
QUESTION = HumanMessage("What is 1 + 2?")
RESULT = ToolMessage("3", tool_call_id="c1")


def said(text="", *, by="mistral-small-latest", calls=(), **metadata):
    return AIMessage(text, tool_calls=list(calls), response_metadata={"model_name": by, **metadata})


CALLED, ANSWERED = said(calls=[CALL]), said("3")

HISTORIES = {
    "a first question": ([QUESTION], None, None),
    "the result of a tool": ([QUESTION, CALLED, RESULT], "same", "same"),
    "the results of two": ([QUESTION, CALLED, RESULT, RESULT], "same", "same"),
    "a further question": ([QUESTION, CALLED, RESULT, ANSWERED, QUESTION], None, "same"),
    "a question instead of a result": ([QUESTION, CALLED, QUESTION], None, "same"),
    "a question after the result": ([QUESTION, CALLED, RESULT, QUESTION], None, "same"),
    "an answer to go on with": ([QUESTION, said("Once")], None, "same"),
    "calls without results": ([QUESTION, CALLED], None, "same"),
    "an answer of nobody known": ([QUESTION, AIMessage("", tool_calls=[CALL]), RESULT], None, None),
    "an answer of another vendor's class": (
        [QUESTION, said(calls=[CALL], model_provider="openai"), RESULT],
        None,
        None,
    ),
    "an answer of ours": (
        [QUESTION, said(calls=[CALL], model_provider="lunar"), RESULT],
        "same",
        "same",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_which_model_a_conversation_stays_with(name):
    history, in_tools, in_conversation = HISTORIES[name]
    same = {"same": "mistral-small-latest", None: None}
    assert find_sticky_model(history, "tools") == same[in_tools]
    assert find_sticky_model(history, "conversation") == same[in_conversation]
    assert find_sticky_model(history, "off") is None


@pytest.mark.parametrize(
    ("answered_as", "metadata", "asked"),
    [
        ("gpt-4o-2024-08-06", {"routing": {"selected_model": "gpt-4o"}}, "gpt-4o"),
        ("gpt-4o-2024-08-06", {"requested_model": "gpt-4o"}, "gpt-4o"),
        ("gpt-4o", {"requested_model": "openai/gpt-4o"}, "openai/gpt-4o"),
        ("gpt-4o-mini", {"routing": {"selected_model": "gpt-4o"}}, "gpt-4o-mini"),
        ("mistral-small-latest", {"requested_model": "router"}, "mistral-small-latest"),
    ],
    ids=["routed", "pinned", "of a provider", "fallback", "nothing known"],
)
def test_it_stays_under_the_name_that_lunar_knows(answered_as, metadata, asked):
    history = [QUESTION, said(by=answered_as, calls=[CALL], **metadata), RESULT]
    assert find_sticky_model(history, "tools") == asked


def test_a_tool_loop_stays_with_the_model_that_called(chat, way, lunar_sandbox):
    model = chat("router", models=MODELS).bind_tools([add])
    first = way.invoke(model, "Use add: a = 2, b = 3")
    history = [HumanMessage("Use add: a = 2, b = 3"), first]
    history.append(ToolMessage("5", tool_call_id=first.tool_calls[0]["id"]))
    last = way.invoke(model, history)
    assert [path for path, _ in sent(lunar_sandbox)] == ["router"] + ["chat/completions"] * 2
    assert last.response_metadata["model_name"] == first.response_metadata["model_name"]


@pytest.mark.parametrize(
    ("sticky", "asked"), [("off", "router"), ("tools", "router"), ("conversation", MODELS[1])]
)
def test_how_long_it_stays_is_for_the_caller_to_say(chat, lunar_sandbox, sticky, asked):
    history = [QUESTION, ANSWERED, QUESTION]
    for model, given in ((chat("router", sticky=sticky), {}), (chat("router"), {"sticky": sticky})):
        answer = model.invoke(history, **given)
        assert answer.response_metadata["requested_model"] == asked
    assert all("sticky" not in body for _, body in sent(lunar_sandbox))


def test_any_other_word_for_it_is_refused():
    with pytest.raises(ValueError, match="sticky"):
        ChatLunar(model="router", api_key="pk_test", sticky="always")


def test_a_model_that_is_named_is_asked_whatever_was_said_before(chat):
    answer = chat("gpt-4o", sticky="conversation").invoke([QUESTION, ANSWERED, QUESTION])
    assert answer.response_metadata["model_name"] == "gpt-4o"


# When routing fails


def test_a_route_that_fails_falls_back(chat, way):
    model = chat("router", models=["fault-503", "gpt-4o!503"], fallbacks=["gpt-4o-mini"])
    answer = way.invoke(model, "hi")
    assert answer.response_metadata["model_name"] == "gpt-4o-mini"
    assert len(answer.response_metadata["attempts"]) == 2
