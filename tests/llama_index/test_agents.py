"""Agents and workflows on a LunarLLM, named and routed."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context, JsonSerializer

from llama_index_lunar import lunar_cost
from tests.faults_steps import DONE, USAGE, chunk, completion, reply, sse
from tests.llama_index.support import TIME, WEATHER, assert_booked, request_body
from tests.llama_index.test_tools import tool_call

pytestmark = [
    # LlamaIndex's agents look at each of their own attributes, pydantic's deprecated ones included,
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
    # and its ReActAgent at one of the workflow's.
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]

QUESTION = "What is the weather in Paris?"


async def run(agent, question, **kwargs):
    """The agent's answer, and all that it told on the way."""
    handler = agent.run(user_msg=question, **kwargs)
    told = [event async for event in handler.stream_events()]
    return await handler, told


def usd(raw):
    return Decimal(repr(raw["usage"]["total_cost_usd"]))


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("routed", [True, False], ids=["routed", "named"])
async def test_a_function_agent_uses_its_tools_and_tells_its_costs(
    streaming, routed, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, model="router" if routed else "gpt-4o-mini")
    agent = FunctionAgent(tools=[WEATHER, TIME], llm=llm, streaming=streaming)
    with lunar_cost(tags={"tenant": "acme"}) as costs:
        answer, told = await run(agent, QUESTION)
    assert str(answer) == "Here is what I found: sunny in Paris"
    steps = [event.raw for event in told if isinstance(event, AgentOutput)]
    assert len(steps) == 2
    # Each step's raw says what that step cost; the steps add up to the run.
    assert sum(map(usd, steps)) == costs.total_cost == lunar_sandbox.total_billed()
    assert all(("routing" in raw) is routed for raw in steps)
    assert usd(answer.raw) == usd(steps[-1])
    assert costs.by_tag("tenant")["acme"].calls == 2
    assert costs.by_agent.keys() == {agent.name}
    (run_id,) = costs.by_tag("llamaindex.run_id")
    assert run_id is not None
    assert not any(name.startswith("llamaindex.step") for e in costs.ledger for name in e.tags)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("routed", [True, False], ids=["routed", "named"])
async def test_where_the_service_ignores_tools_agents_are_answered_in_words(
    streaming, routed, llm_on, lunar_sandbox_factory
):
    sandbox = lunar_sandbox_factory(dialect="observed")
    llm = llm_on(sandbox, model="router" if routed else "gpt-4o-mini")
    told = {"llm": llm, "streaming": streaming, "description": "Helps"}
    alone = FunctionAgent(name="alone", tools=[WEATHER], **told)
    other = FunctionAgent(name="other", tools=[TIME], **told)
    both = AgentWorkflow(agents=[alone, other], root_agent="alone")
    for agent in (alone, both):
        with lunar_cost() as costs:
            answer, told = await run(agent, "Say it is sunny")
        assert str(answer) == "it is sunny"
        (step,) = [event.raw for event in told if isinstance(event, AgentOutput)]
        assert ("routing" in step) is routed
        assert costs.by_agent.keys() == {"alone"}
        assert costs.unpriced == streaming  # its streams tell no usage: unknown, not nothing
        assert ("usage" in step) is not streaming
        assert costs.total_cost == (0 if streaming else usd(step))
    sandbox.reset()


async def test_an_agents_stream_is_what_the_model_says(llm):
    agent = FunctionAgent(tools=[WEATHER], llm=llm)
    _, told = await run(agent, QUESTION)
    said = "".join(event.delta for event in told if isinstance(event, AgentStream))
    assert said == "Here is what I found: sunny in Paris"


async def test_an_agent_calls_tools_in_parallel(llm, lunar_sandbox):
    agent = FunctionAgent(tools=[WEATHER, TIME], llm=llm)
    answer, _ = await run(agent, "What is the weather in Paris and the time in Rome?")
    assert "sunny in Paris" in str(answer)
    assert "noon in Rome" in str(answer)
    assert request_body(lunar_sandbox.requests()[0])["parallel_tool_calls"] is True


async def test_a_function_agent_may_force_its_first_tool(llm, lunar_sandbox):
    agent = FunctionAgent(tools=[WEATHER, TIME], llm=llm, initial_tool_choice="get_time")
    await run(agent, QUESTION)
    first, second = map(request_body, lunar_sandbox.requests())
    assert first["tool_choice"]["function"]["name"] == "get_time"
    assert second["tool_choice"] == "auto"


async def test_an_agent_remembers_what_was_said(llm, lunar_sandbox):
    agent = FunctionAgent(tools=[WEATHER], llm=llm)
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    await run(agent, QUESTION, memory=memory)
    await run(agent, "Say thanks", memory=memory)
    sent = request_body(lunar_sandbox.requests()[-1])["messages"]
    roles = [message["role"] for message in sent]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    assert all(
        message.keys() <= {"role", "content", "tool_calls", "tool_call_id"} for message in sent
    )


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_react_agent_works_by_text_alone(streaming, llm_on, faults, dialect):
    def step(request):
        said = str(request.json["messages"])
        text = "Thought: I can answer.\nAnswer: It is sunny."
        if "sunny in Paris" not in said:
            text = 'Thought: I look.\nAction: get_weather\nAction Input: {"city": "Paris"}'
        if not request.json.get("stream"):
            return reply(json=completion(text))
        told = {"usage": USAGE} if dialect == "documented" else {}
        return sse(chunk(text[:12]), chunk(text[12:]), chunk(finish="stop", **told), DONE)

    faults.decide(step)
    agent = ReActAgent(tools=[WEATHER], llm=llm_on(faults), streaming=streaming)
    with lunar_cost() as costs:
        answer, told = await run(agent, QUESTION)
    assert str(answer) == "It is sunny."
    assert len(faults.bodies) == len(costs.ledger) == 2
    assert all("tools" not in body for body in faults.bodies)
    silent = streaming and dialect == "observed"
    assert (costs.total_cost, costs.unpriced) == ((0, 2) if silent else (Decimal("0.00009"), 0))
    assert any(isinstance(event, AgentStream) for event in told) is streaming


async def test_an_agent_that_writes_code_works_by_text_alone(llm_on, faults):
    def step(request):
        said = str(request.json["messages"][2:])
        return reply(
            json=completion("It is 42." if "42" in said else "<execute>\nprint(6 * 7)\n</execute>")
        )

    faults.decide(step)
    agent = CodeActAgent(
        code_execute_fn=lambda code: "42", tools=[], llm=llm_on(faults), streaming=False
    )
    with lunar_cost() as costs:
        answer, _ = await run(agent, "What is 6 times 7?")
    assert str(answer) == "It is 42."
    assert costs.total_cost == Decimal("0.00009")


# The memory is not part of what newer workflows store.
@pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key")
async def test_a_context_can_be_stored_and_taken_up_again(llm, lunar_sandbox):
    agent, memory = FunctionAgent(tools=[WEATHER], llm=llm), ChatMemoryBuffer.from_defaults(llm=llm)
    context = Context(agent)
    await run(agent, QUESTION, ctx=context, memory=memory)
    stored = json.dumps(context.to_dict(serializer=JsonSerializer()))
    assert lunar_sandbox.api_key not in stored
    again = Context.from_dict(agent, json.loads(stored), serializer=JsonSerializer())
    answer, _ = await run(agent, "Say thanks", ctx=again, memory=memory)
    assert str(answer) == "thanks"
    roles = [each["role"] for each in request_body(lunar_sandbox.requests()[-1])["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_react_agent_runs_on_the_sandbox(llm_on, either_sandbox, dialect):
    agent = ReActAgent(tools=[], llm=llm_on(either_sandbox))
    with lunar_cost() as costs:
        answer, _ = await run(agent, "Say Thought: I can answer. Answer: hello")
    assert "hello" in str(answer)
    assert_booked(costs, either_sandbox, silent=dialect == "observed")


async def test_agents_hand_over_to_each_other_and_each_has_its_costs(llm_on, faults):
    def step(request):
        names = [tool["function"]["name"] for tool in request.json.get("tools", [])]
        said = str(request.json["messages"])
        if "get_weather" in names:
            last = request.json["messages"][-1]
            call = tool_call("c2", "get_weather", '{"city": "Paris"}')
            return answer_of("It is sunny." if "sunny" in str(last) else None, call)
        assert "handoff" in names, said
        return answer_of(
            None, tool_call("c1", "handoff", '{"to_agent": "forecaster", "reason": "weather"}')
        )

    def answer_of(text, call):
        message = {"role": "assistant", "content": text}
        if text is None:
            message["tool_calls"] = [call]
        return reply(json=completion(choices=[{"index": 0, "message": message}]))

    faults.decide(step)
    llm = llm_on(faults)
    told = {"llm": llm, "streaming": False}
    reception = FunctionAgent(
        name="reception", description="Greets", tools=[], can_handoff_to=["forecaster"], **told
    )
    forecaster = FunctionAgent(
        name="forecaster", description="Knows weather", tools=[WEATHER], **told
    )
    workflow = AgentWorkflow(agents=[reception, forecaster], root_agent="reception")
    with lunar_cost() as costs:
        answer, _ = await run(workflow, QUESTION)
    assert str(answer) == "It is sunny."
    calls = {name: totals.calls for name, totals in costs.by_agent.items()}
    assert calls == {"reception": 1, "forecaster": 2}


async def test_an_agents_answer_can_be_structured(llm):
    from pydantic import BaseModel

    class Report(BaseModel):
        city: str

    agent = FunctionAgent(tools=[WEATHER], llm=llm, output_cls=Report)
    answer, _ = await run(agent, QUESTION)
    assert answer.get_pydantic_model(Report) == Report(city="Paris")


async def test_many_runs_at_once_keep_their_costs_apart(llm, lunar_sandbox):
    import asyncio

    async def tenant(name):
        with lunar_cost(tags={"tenant": name}) as costs:
            await FunctionAgent(tools=[WEATHER], llm=llm).run(user_msg=QUESTION)
        return costs

    spent = await asyncio.gather(*(tenant(str(n)) for n in range(6)))
    assert [len(costs.ledger) for costs in spent] == [2] * 6
    assert sum(costs.total_cost for costs in spent) == lunar_sandbox.total_billed()
