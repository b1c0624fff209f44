"""Agents of both frameworks come to an end on the sandbox, as they do with real models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from pydantic import BaseModel

from langchain_lunar import ChatLunar
from llama_index_lunar import LunarLLM
from lunar_core import BadRequestError
from tests.sandbox.raw import chat, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lunar_core.sandbox import Sandbox

pytestmark = [
    # LlamaIndex's agents look at each of their own attributes, pydantic's deprecated ones included,
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
    # and its ReActAgent at one of the workflow's.
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]

MOST = 10
"""Requests that a task of two steps may take."""
TASK = "What is the weather in Lisbon, and its population?"
LANGCHAIN_TASK = {"messages": [("user", TASK)]}


class Report(BaseModel):
    """The report."""

    city: str


class Figure(BaseModel):
    """A figure alone."""

    number: int


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 degrees in {city}"


def population(city: str) -> str:
    """Tell how many people live in a city."""
    return f"567,131 in {city}"


@pytest.fixture(autouse=True)
def _no_agent_runs_on(lunar_sandbox_env: Sandbox) -> Any:
    yield
    assert 0 < len(lunar_sandbox_env.requests()) <= MOST


@pytest.fixture(params=["gpt-4o-mini", "router"])
def model(request: pytest.FixtureRequest) -> Iterator[ChatLunar]:
    model = ChatLunar(model=request.param)
    yield model
    model.close()


@pytest.fixture
async def llm() -> AsyncIterator[LunarLLM]:
    llm = LunarLLM(model="gpt-4o-mini")
    yield llm
    await llm.aclose()


@pytest.mark.parametrize(
    "strategy",
    [Report, ToolStrategy(Report), ToolStrategy(Report | Figure), ProviderStrategy(Report)],
    ids=["by default", "by a tool", "by one of two tools", "by the provider"],
)
@pytest.mark.parametrize("tools", [[weather, population], [weather], []], ids=len)
def test_an_agent_with_tools_ends_in_its_report(
    model: ChatLunar, strategy: Any, tools: Any
) -> None:
    agent = create_agent(model, tools, response_format=strategy)
    assert agent.invoke(LANGCHAIN_TASK)["structured_response"] == Report(city="Lisbon")


def test_each_tool_is_called_before_the_report_is_written(
    model: ChatLunar, lunar_sandbox_env: Sandbox
) -> None:
    agent = create_agent(model, [weather], response_format=ToolStrategy(Report))
    agent.invoke(LANGCHAIN_TASK)
    last = json.loads(lunar_sandbox_env.requests()[-1]["body"])["messages"]
    assert [message["role"] for message in last] == ["user", "assistant", "tool"]
    assert last[-1]["content"] == "18 degrees in Lisbon"


async def test_a_streaming_agent_ends_too(model: ChatLunar) -> None:
    agent = create_agent(
        model.model_copy(update={"streaming": True}), [weather], response_format=Report
    )
    steps = [step async for step in agent.astream(LANGCHAIN_TASK, stream_mode="values")]
    assert steps[-1]["structured_response"] == Report(city="Lisbon")


def test_a_choice_that_never_ends_is_refused_and_says_why(model: ChatLunar) -> None:
    @wrap_model_call
    def always_call(request: Any, handler: Any) -> Any:
        return handler(request.override(tool_choice="any"))

    agent = create_agent(model, [weather, population], middleware=[always_call])
    with pytest.raises(BadRequestError, match=r"weather\(.*Lisbon.*for ever.*tool_choice"):
        agent.invoke(LANGCHAIN_TASK)


@pytest.mark.parametrize("model", ["gpt-4o-mini"], indirect=True)
def test_a_supervisor_hands_over_to_each_once(model: ChatLunar, lunar_sandbox_env: Sandbox) -> None:
    experts = {
        "transfer_to_weather": create_agent(model, [weather]),
        "transfer_to_population": create_agent(model, [population]),
    }
    tools = [tool(name, "Ask an expert.") for name in experts]
    supervisor = model.bind_tools(tools, parallel_tool_calls=False)
    messages: list[Any] = [("user", TASK)]
    asked: list[str] = []
    while len(lunar_sandbox_env.requests()) <= MOST:
        answer = supervisor.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        (call,) = answer.tool_calls
        asked.append(call["name"])
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": "Handed over."})
        messages.append(experts[call["name"]].invoke(LANGCHAIN_TASK)["messages"][-1])
    assert sorted(asked) == sorted(experts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"allow_parallel_tool_calls": False},
        {"initial_tool_choice": "required"},
        {"initial_tool_choice": "population"},
        {"streaming": False},
    ],
    ids=str,
)
async def test_a_function_agent_ends_in_its_report(options: dict[str, Any], llm: LunarLLM) -> None:
    agent = FunctionAgent(tools=[weather, population], llm=llm, output_cls=Report, **options)
    answer = await agent.run(user_msg=TASK)
    assert answer.structured_response == {"city": "Lisbon"}


async def test_a_react_agent_ends_in_its_report(llm: LunarLLM) -> None:
    agent = ReActAgent(tools=[weather], llm=llm, output_cls=Report)
    assert (await agent.run(user_msg=TASK)).structured_response == {"city": "Lisbon"}


async def test_agents_that_may_hand_over_to_each_other_end(llm: LunarLLM) -> None:
    names = {"weather_expert": weather, "population_expert": population}
    agents = [
        FunctionAgent(
            name=name,
            description=f"Is the {name}.",
            tools=[function],
            llm=llm,
            can_handoff_to=[other for other in names if other != name],
        )
        for name, function in names.items()
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="weather_expert", output_cls=Report)
    assert (await workflow.run(user_msg=TASK)).structured_response == {"city": "Lisbon"}


# The rule, request by request


ADD = tool("add", "Add two numbers.", a={"type": "integer"}, b={"type": "integer"})
NOTE = tool("note", "Keep a note.", text={"type": "string"})


def conversation(*calls: tuple[str, str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Add 3 and 4"}]
    for number, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": arguments}
        tool_call = {"id": f"c{number}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [tool_call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "7"},
        ]
    return messages


def called(sandbox: Sandbox, messages: list[dict[str, Any]], choice: Any) -> list[str]:
    reply = chat(sandbox, messages=messages, tools=[ADD, NOTE], tool_choice=choice)
    assert reply.status == 200, reply.body
    message = reply.json()["choices"][0]["message"]
    return [call["function"]["name"] for call in message.get("tool_calls", ())]


def test_required_prefers_what_was_not_called(lunar_sandbox: Sandbox) -> None:
    first, both = conversation(("add", "{}")), conversation(("add", "{}"), ("note", "{}"))
    assert called(lunar_sandbox, conversation(), "required") == ["add"]
    assert called(lunar_sandbox, first, "required") == ["note"]
    assert called(lunar_sandbox, both, "required") == ["add"]
    assert called(lunar_sandbox, first, "auto") == []


def test_a_third_call_that_is_the_same_is_refused(lunar_sandbox: Sandbox) -> None:
    same = ('{"a": 3, "b": 4}', '{"b":4,"a":3}')
    named = {"type": "function", "function": {"name": "add"}}
    once = conversation(("add", same[0]))
    twice = conversation(*(("add", arguments) for arguments in same))
    other = conversation(("add", same[0]), ("add", '{"a": 1, "b": 1}'))
    assert called(lunar_sandbox, once, named) == called(lunar_sandbox, other, named) == ["add"]
    reply = chat(lunar_sandbox, messages=twice, tools=[ADD, NOTE], tool_choice=named)
    assert (reply.status, "2 times" in reply.json()["detail"]) == (400, True)
    again = [*twice, {"role": "assistant", "content": "7"}, {"role": "user", "content": "Add 3, 4"}]
    assert called(lunar_sandbox, again, named) == ["add"]


def test_scripted_calls_may_be_the_same_for_ever(lunar_sandbox: Sandbox) -> None:
    many = conversation(*[("add", '{"a": 3, "b": 4}')] * 5)
    lunar_sandbox.call_tool("add", {"a": 3, "b": 4})
    named = {"type": "function", "function": {"name": "add"}}
    assert called(lunar_sandbox, many, named) == ["add"]
