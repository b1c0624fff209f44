"""The eight endpoints: what they answer, send, tell and cost."""

from __future__ import annotations

from decimal import Decimal

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMCompletionEndEvent

from lunar_core import ConfigurationError, LunarError
from tests.faults_steps import DONE, chunk, completion, reply, sse
from tests.llama_index.support import ENDPOINTS, STREAMS, Recorder, ask, request_body, text_of, user

FLAT = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_cost_usd",
    "output_cost_usd",
    "cache_input_cost_usd",
    "total_cost_usd",
    "latency_ms",
    "ttft_ms",
    "model",
    "finish_reason",
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("is_chat_model", [True, False], ids=["chat", "text"])
async def test_each_endpoint_answers_with_what_was_billed(
    endpoint, is_chat_model, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, is_chat_model=is_chat_model)
    last = (await ask(llm, endpoint))[-1]
    (bill,) = lunar_sandbox.billed(at_least=1)
    known = last.additional_kwargs
    assert known.keys() >= FLAT
    assert known["total_cost_usd"] == bill["total_cost_usd"] == last.raw["usage"]["total_cost_usd"]
    assert known["total_tokens"] == known["prompt_tokens"] + known["completion_tokens"]
    assert known["model"] == last.raw["model"] == "gpt-4o-mini"
    assert type(last.raw) is dict
    (request,) = lunar_sandbox.requests()
    assert request["path"] == ("/v1/chat/completions" if is_chat_model else "/v1/completions")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_each_endpoint_answers_in_both_dialects(endpoint, llm_on, either_sandbox, dialect):
    answers = await ask(llm_on(either_sandbox), endpoint, "Say hello there")
    assert text_of(answers[-1]) == "hello there"
    streamed = "stream" in endpoint
    # The backend as it was seen says no usage in streams: then nothing is known, and nothing is made up.
    silent = streamed and dialect == "observed"
    assert ("total_cost_usd" in answers[-1].additional_kwargs) is not silent
    assert ("usage" in answers[-1].raw) is not silent
    if streamed:
        assert "".join(each.delta for each in answers) == "hello there"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_each_answer_ends_one_event(endpoint, llm, recorder: Recorder):
    last = (await ask(llm, endpoint))[-1]
    ends = recorder.of(LLMChatEndEvent) + recorder.of(LLMCompletionEndEvent)
    assert len(ends) == 1
    assert ends[0].response.additional_kwargs == last.additional_kwargs
    assert len(recorder.usage) == 1
    assert isinstance(ends[0], LLMChatEndEvent if "chat" in endpoint else LLMCompletionEndEvent)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("is_chat_model", [True, False], ids=["chat", "text"])
async def test_token_counters_count_what_was_billed(endpoint, is_chat_model, llm_on, lunar_sandbox):
    counter = TokenCountingHandler(tokenizer=lambda text: [1] * 1_000_000)
    llm = llm_on(
        lunar_sandbox, is_chat_model=is_chat_model, callback_manager=CallbackManager([counter])
    )
    await ask(llm, endpoint)
    (bill,) = lunar_sandbox.billed(at_least=1)
    assert counter.total_llm_token_count == bill["prompt_tokens"] + bill["completion_tokens"]


@pytest.mark.parametrize("endpoint", STREAMS)
@pytest.mark.parametrize("style", ["last", "closing", "every", "none"])
async def test_the_last_response_of_a_stream_tells_all_wherever_the_service_tells_it(
    endpoint, style, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, default_headers={"x-sandbox-usage": style})
    responses = await ask(llm, endpoint, "Say one two three")
    assert text_of(responses[-1]) == "one two three"
    assert all("total_cost_usd" not in each.additional_kwargs for each in responses[:-1])
    assert ("total_cost_usd" in responses[-1].additional_kwargs) is (style != "none")
    assert responses[-1].additional_kwargs["finish_reason"] == "stop"


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_every_chunk_of_a_stream_is_handed_on(endpoint, llm_on, faults):
    role = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    stop = chunk(finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 2})
    faults.always(sse(role, chunk("a"), chunk("b"), stop, DONE))
    responses = await ask(llm_on(faults), endpoint)
    assert [each.delta for each in responses] == ["", "a", "b", ""]
    assert [text_of(each) for each in responses] == ["", "a", "ab", "ab"]


async def test_a_stream_whose_last_chunk_is_text_gets_a_response_of_its_own_for_the_end(
    llm_on, faults
):
    faults.always(sse(chunk("a"), chunk("b", finish="stop", usage={"prompt_tokens": 1}), DONE))
    responses = await ask(llm_on(faults), "stream_chat")
    assert [each.delta for each in responses] == ["a", "b", ""]
    assert responses[-1].additional_kwargs["prompt_tokens"] == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_keywords_of_a_call_win_over_fields_and_additional_kwargs(
    endpoint, llm_on, lunar_sandbox
):
    llm = llm_on(
        lunar_sandbox, max_tokens=9, temperature=0.1, additional_kwargs={"seed": 1, "top_p": 0.5}
    )
    await ask(llm, endpoint, max_tokens=5, seed=2, model="gpt-4o")
    (request,) = lunar_sandbox.requests()
    body = request_body(request)
    assert body["max_tokens"] == 5
    assert body["seed"] == 2
    assert body["model"] == "gpt-4o"
    assert body["temperature"] == 0.1
    assert body["top_p"] == 0.5


async def test_only_what_was_given_is_sent(llm, lunar_sandbox):
    await ask(llm, "chat", "hi")
    body = request_body(lunar_sandbox.requests()[0])
    assert body.keys() - {"stream"} == {"model", "messages"}
    assert body["messages"] == [{"role": "user", "content": "hi"}]


async def test_every_field_is_sent_under_the_name_of_the_api(llm_on, lunar_sandbox):
    fields = {
        "temperature": 1.5,
        "max_tokens": 7,
        "top_p": 0.9,
        "stop": ["END"],
        "n": 2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "provider": "azure",
        "reasoning_effort": "low",
    }
    await ask(llm_on(lunar_sandbox, **fields), "achat")
    body = request_body(lunar_sandbox.requests()[0])
    assert {name: body[name] for name in fields} == fields


async def test_one_stop_sequence_may_be_given_alone(llm_on, lunar_sandbox):
    (answer,) = await ask(llm_on(lunar_sandbox, stop="two"), "chat", "Say one two three")
    assert answer.message.content == "one "


async def test_of_several_choices_the_first_is_the_message(llm_on, lunar_sandbox):
    for endpoint in ("chat", "stream_chat"):
        last = (await ask(llm_on(lunar_sandbox, n=3), endpoint, "Say one two"))[-1]
        assert last.message.content == "one two"


async def test_a_call_may_choose_the_other_endpoint_for_itself(llm, lunar_sandbox):
    await ask(llm, "complete", use_chat_completions=False)
    await ask(llm, "complete", use_chat_completions=True)
    requests = lunar_sandbox.requests()
    assert [r["path"] for r in requests] == ["/v1/completions", "/v1/chat/completions"]
    assert all("use_chat_completions" not in request_body(r) for r in requests)


async def test_chats_of_a_text_model_are_written_as_a_prompt(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, is_chat_model=False, model="gpt-3.5-turbo-instruct")
    messages = [ChatMessage("Be brief", role="system"), *user("Say hello")]
    assert isinstance(llm.chat(messages), ChatResponse)
    prompt = request_body(lunar_sandbox.requests()[0])["prompt"]
    assert prompt == "system: Be brief\nuser: Say hello\nassistant: "


async def test_prompts_are_formatted_once(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, completion_to_prompt=lambda prompt: f"<<{prompt}>>")
    await ask(llm, "complete", "hi")
    await ask(llm, "acomplete", "hi", formatted=True)
    sent = [request_body(r)["messages"][0]["content"] for r in lunar_sandbox.requests()]
    assert sent == ["<<hi>>", "hi"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_chat_that_becomes_a_completion_keeps_tokens_in_additional_kwargs(endpoint, llm):
    last = (await ask(llm, endpoint))[-1]
    kind = CompletionResponse if "complete" in endpoint else ChatResponse
    assert isinstance(last, kind)
    assert last.additional_kwargs["total_tokens"] > 0


async def test_message_kwargs_hold_nothing_but_tool_calls(llm):
    for endpoint in ("chat", "stream_chat"):
        for response in await ask(llm, endpoint):
            assert response.message.additional_kwargs == {}


async def test_costs_add_up_to_the_bill(llm, lunar_sandbox):
    spent = [
        (await ask(llm, endpoint, f"Say {endpoint}"))[-1].additional_kwargs["total_cost_usd"]
        for endpoint in ENDPOINTS
    ]
    total = sum(Decimal(repr(cost)) for cost in spent)
    assert total == lunar_sandbox.total_billed()


async def test_a_reasoning_model_thinks_in_a_block_of_its_own(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, model="o3-mini")
    for endpoint in ("chat", "achat", "stream_chat", "astream_chat"):
        responses = await ask(llm, endpoint, "Say hello")
        thinking, text = responses[-1].message.blocks
        assert (thinking.block_type, text.text) == ("thinking", "hello")
        assert thinking.content.startswith("The question is:")
        assert thinking.num_tokens > 0
        if "stream" in endpoint:
            deltas = [r.additional_kwargs.get("thinking_delta", "") for r in responses]
            assert "".join(deltas) == thinking.content


async def test_the_other_name_of_the_reasoning_field_is_read_too(llm_on, faults):
    faults.always(
        sse(
            chunk(choices=[{"index": 0, "delta": {"reasoning": "hm"}}]),
            chunk("ok", finish="stop"),
            DONE,
        )
    )
    responses = await ask(llm_on(faults), "astream_chat")
    assert responses[0].additional_kwargs == {"thinking_delta": "hm"}
    assert responses[-1].message.blocks[0].content == "hm"


async def test_a_stream_without_reasoning_has_no_thinking(llm):
    for response in await ask(llm, "stream_chat"):
        assert "thinking_delta" not in response.additional_kwargs
        assert [block.block_type for block in response.message.blocks] == ["text"]


async def test_logprobs_come_with_their_tokens(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, logprobs=True, top_logprobs=2)
    (answer,) = await ask(llm, "chat", "Say one two")
    assert [[each.token for each in token] for token in answer.logprobs] == [
        ["one ", "one ~1"],
        ["two", "two~1"],
    ]
    streamed = await ask(llm, "stream_chat", "Say one two")
    assert [r.logprobs[0][0].token for r in streamed if r.delta] == ["one ", "two"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_router_refuses_text_completions_here(endpoint, llm):
    with pytest.raises(ConfigurationError, match="router"):
        await ask(llm, endpoint, model="router", use_chat_completions=False)


async def test_an_empty_answer_is_an_empty_text(llm_on, faults):
    faults.always(reply(json=completion("")))
    assert llm_on(faults).complete("hi").text == ""
    assert llm_on(faults).chat(user("hi")).message.content == ""


async def test_errors_are_those_of_the_core(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, model="no-such-model", max_retries=0)
    for endpoint in ENDPOINTS:
        with pytest.raises(LunarError, match="no-such-model"):
            await ask(llm, endpoint)
