"""What odd upstreams send is read in LlamaIndex as it was meant, plain and streamed."""

import pytest
from llama_index.core.base.llms.types import ThinkingBlock

from llama_index_lunar import LunarLLM
from tests.faults import FaultServer
from tests.llama_index.provider import last_of
from tests.llama_index.support import user
from tests.upstreams import each_habit


@each_habit
@pytest.mark.parametrize("endpoint", ["chat", "achat"])
async def test_an_odd_answer_is_read_as_it_was_meant(habit, endpoint):
    check(await ask(habit, endpoint, streamed=False), habit)


@each_habit
@pytest.mark.parametrize("endpoint", ["stream_chat", "astream_chat"])
async def test_an_odd_stream_is_read_as_it_was_meant(habit, endpoint):
    check(await ask(habit, endpoint, streamed=True), habit)


async def ask(habit, endpoint, *, streamed):
    with FaultServer() as server:
        server.script(habit.reply(streamed=streamed))
        llm = LunarLLM(model="m", api_key="pk_test_odd", api_base=server.origin, max_retries=0)
        response = await last_of(llm, endpoint, user("x"))
        await llm.aclose()
    return response, llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)


def check(answer, habit):
    response, calls = answer
    metadata, message = response.additional_kwargs, response.message
    thoughts = [block.content for block in message.blocks if isinstance(block, ThinkingBlock)]
    assert (message.content or "", "".join(thoughts)) == (habit.text, habit.reasoning)
    assert (metadata["id"], metadata["model"]) == ("a1", "m-1")
    assert metadata.get("total_cost_usd") == habit.cost
    assert (metadata.get("prompt_tokens"), metadata.get("completion_tokens")) == habit.tokens
    read = [(call.tool_id, call.tool_name, call.tool_kwargs) for call in calls]
    assert read == ([] if habit.call_id is None else [(habit.call_id, "f", {"a": 1})])
    assert metadata["finish_reason"] == ("stop" if habit.call_id is None else "tool_calls")
