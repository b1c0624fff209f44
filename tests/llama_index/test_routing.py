"""The routed LLM: decisions, where they are told, and who stays with whose model."""

from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from lunar_core import ConfigurationError
from tests.faults_steps import completion, reply
from tests.llama_index.support import ENDPOINTS, STREAMS, WEATHER, ask, request_body, user

FIELDS = {
    "selected_model",
    "selected_provider",
    "expected_error",
    "cost_adjusted_score",
    "cluster_id",
    "reasoning",
}
CODE = "Write a python function that sorts"
PROOF = "Prove that the square root of 2 is irrational"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_route_is_told_on_the_answer_and_in_the_event(
    endpoint, router, lunar_sandbox, recorder
):
    last = (await ask(router, endpoint, PROOF))[-1]
    route = last.additional_kwargs["routing"]
    assert route.keys() == FIELDS
    assert last.raw["routing"] == route
    assert last.additional_kwargs["model"] == route["selected_model"] == "gpt-4-turbo"
    assert last.additional_kwargs["provider"] == "openai"
    assert last.additional_kwargs["requested_model"] == "router"
    (event,) = (each for each in recorder.usage if each.endpoint != "router.decide")
    streamed = "stream" in endpoint  # then the decision comes first
    asked = "chat.completions" if streamed else "router"
    assert (event.routing, event.model, event.endpoint) == (route, "gpt-4-turbo", asked)
    paths = ["/v1/router", *(["/v1/chat/completions"] if streamed else [])]
    assert [r["path"] for r in lunar_sandbox.requests()] == paths


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_backend_as_it_was_seen_routes_too(endpoint, llm_on, either_sandbox):
    last = (await ask(llm_on(either_sandbox, model="router"), endpoint, PROOF))[-1]
    assert last.additional_kwargs["routing"]["selected_model"] == "gpt-4-turbo"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_what_the_router_cannot_take_is_decided_first_and_then_asked(
    endpoint, router, lunar_sandbox, recorder
):
    last = (await ask(router, endpoint, PROOF, stop=["nothing"]))[-1]
    assert last.raw["routing"]["selected_model"] == "gpt-4-turbo"
    decision, call = lunar_sandbox.requests()
    assert request_body(decision)["execute"] is False
    assert request_body(call)["model"] == "gpt-4-turbo"
    decided, answered = recorder.usage
    assert (decided.endpoint, answered.endpoint) == ("router.decide", "chat.completions")
    assert decided.span_id == answered.span_id


async def test_candidates_and_weight_are_the_routers_alone(llm_on, lunar_sandbox):
    candidates = ["gpt-4o-mini", "mistral-small-latest"]
    llm = llm_on(lunar_sandbox, model="router", models=candidates, cost_weight=0.5)
    answer = (await ask(llm, "chat", PROOF))[0]
    assert answer.raw["model"] in candidates
    assert request_body(lunar_sandbox.requests()[0])["cost_weight"] == 0.5
    await ask(llm, "chat", PROOF, model="gpt-4o")
    body = request_body(lunar_sandbox.requests()[1])
    assert body["model"] == "gpt-4o"
    assert not {"models", "cost_weight"} & body.keys()


async def test_a_call_of_a_named_model_may_be_routed(llm, lunar_sandbox):
    answer = (await ask(llm, "chat", PROOF, model="router", models=["gpt-4o", "gpt-4o-mini"]))[0]
    assert answer.raw["routing"]["selected_model"] == "gpt-4o"
    assert lunar_sandbox.requests()[0]["path"] == "/v1/router"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("messages", [PROOF, user(PROOF)], ids=["text", "messages"])
async def test_a_decision_can_be_had_without_an_answer(
    asynchronous, messages, router, lunar_sandbox, recorder
):
    found = await router.aroute(messages) if asynchronous else router.route(messages)
    assert found.selected_model == "gpt-4-turbo"
    assert found.expected_error == 0.15
    (request,) = lunar_sandbox.requests()
    assert request_body(request)["execute"] is False
    assert [event.endpoint for event in recorder.usage] == ["router.decide"]


def test_a_decision_reads_the_text_of_any_conversation(router, lunar_sandbox):
    history = [
        ChatMessage("Be brief", role="developer"),
        ChatMessage(
            role="assistant",
            additional_kwargs={"tool_calls": [{"id": "x", "function": {"name": "f"}}]},
        ),
        ChatMessage("42", role="tool", additional_kwargs={"tool_call_id": "x"}),
        *user(CODE),
    ]
    router.route(history, models=["gpt-4o", "mistral-large-latest"], cost_weight=0.1)
    body = request_body(lunar_sandbox.requests()[0])
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert body["models"] == ["gpt-4o", "mistral-large-latest"]


def test_a_single_candidate_is_no_choice(llm_on, lunar_sandbox):
    with pytest.raises(ConfigurationError, match="models"):
        llm_on(lunar_sandbox, model="router", models=["gpt-4o"]).complete("hi")


# Stickiness


def loop(llm, form="chat_with_tools"):
    """Ask with a tool; then give it the tool's result."""
    history = user("What is the weather in Paris?")
    asked = getattr(llm, form)([WEATHER], chat_history=history)
    asked = list(asked)[-1] if "stream" in form else asked
    (call,) = llm.get_tool_calls_from_response(asked)
    told = ChatMessage("rain", role="tool", additional_kwargs={"tool_call_id": call.tool_id})
    done = getattr(llm, form)([WEATHER], chat_history=[*history, asked.message, told])
    return asked, list(done)[-1] if "stream" in form else done


@pytest.mark.parametrize("form", ["chat_with_tools", "stream_chat_with_tools"])
def test_the_results_of_tools_go_to_the_model_that_called_them(form, router, lunar_sandbox):
    asked, done = loop(router, form)
    paths = [request["path"] for request in lunar_sandbox.requests()]
    assert paths == ["/v1/router", "/v1/chat/completions", "/v1/chat/completions"]
    # The decision stands on all that follows from it.
    assert done.raw["routing"] == asked.raw["routing"]
    assert done.raw["model"] == asked.raw["routing"]["selected_model"]


def test_stickiness_may_be_off(llm_on, lunar_sandbox):
    loop(llm_on(lunar_sandbox, model="router", sticky="off"))
    paths = [request["path"] for request in lunar_sandbox.requests()]
    assert paths == ["/v1/router", "/v1/chat/completions"] * 2


@pytest.mark.parametrize("endpoint", ["chat", "achat", "stream_chat", "astream_chat"])
@pytest.mark.parametrize("sticky", ["tools", "conversation"])
async def test_a_conversation_stays_with_its_model_if_it_shall(
    endpoint, sticky, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, model="router", sticky=sticky)
    first = (await ask(llm, endpoint, PROOF))[-1]
    history = [*user(PROOF), ChatMessage(first.message.content, role="assistant"), *user(CODE)]
    answer = getattr(llm, endpoint)(history)
    answer = await answer if endpoint.startswith("a") else answer
    if endpoint in STREAMS:
        answer = (
            [each async for each in answer][-1] if endpoint.startswith("a") else list(answer)[-1]
        )
    stays = sticky == "conversation"
    assert (answer.raw["model"] == first.raw["model"]) is stays
    assert answer.raw["routing"]["selected_model"] == answer.raw["model"]


def test_a_new_conversation_is_routed_anew(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, model="router", sticky="conversation")
    models = [llm.chat(user(prompt)).raw["model"] for prompt in (PROOF, CODE)]
    assert len(set(models)) == 2


def test_what_is_remembered_is_bounded():
    from llama_index_lunar.routes import MAX_ROUTES, Routes

    def answer(number):
        calls = [{"id": f"call_{number}", "function": {"name": "f", "arguments": "{}"}}]
        return {"role": "assistant", "content": "", "tool_calls": calls}

    def conversation(number):
        return [answer(number), {"role": "tool", "content": "x", "tool_call_id": f"call_{number}"}]

    routes = Routes()
    for number in range(MAX_ROUTES + 50):
        routes.remember(answer(number), {"selected_model": "m"}, "tools")
    assert routes.find(conversation(49), "tools") is None
    assert routes.find(conversation(50), "tools") == {"selected_model": "m"}


def test_a_loop_is_known_by_the_id_that_its_call_came_with_though_an_earlier_turn_has_it():
    from llama_index_lunar.messages import Conversation, to_message
    from llama_index_lunar.routes import Routes

    call = ToolCallBlock(tool_call_id="call_0", tool_name="f", tool_kwargs={})
    turn = [
        ChatMessage(role="assistant", blocks=[call]),
        ChatMessage("r", role="tool", additional_kwargs={"tool_call_id": "call_0"}),
    ]
    routes = Routes()
    routes.remember(to_message(turn[0]), {"selected_model": "m"}, "tools")
    conversation = Conversation([*user("x"), *turn, *turn])
    assert routes.find(conversation.messages, "tools") == {"selected_model": "m"}


def test_fallbacks_of_a_routed_call_are_asked_directly(llm_on, faults):
    faults.decide(
        lambda request: reply(503) if request.path == "/v1/router" else reply(json=completion("ok"))
    )
    llm = llm_on(faults, model="router", fallbacks=["gpt-4o-mini"], max_retries=0)
    answer = llm.chat(user("hi"))
    assert answer.message.content == "ok"
    assert [a["model"] for a in answer.additional_kwargs["attempts"]] == ["router", "gpt-4o-mini"]
