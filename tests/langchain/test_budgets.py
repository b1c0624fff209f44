"""Budgets in LangChain: refusals by ChatLunar and the router chain, agents that end, weights that are functions."""

import asyncio
import copy
import json
import pickle

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_lunar import ChatLunar, LunarRouterChain, lunar_retry_on
from langchain_lunar.middleware import LunarBudgetMiddleware
from lunar_core import (
    Budget,
    BudgetExceededError,
    CallStart,
    ConfigurationError,
    observing,
    tags,
)
from tests.faults_steps import USAGE, completion, reply
from tests.langchain.router_inputs import PAIR

COST = 0.01
"""Of each answer of the script: more than is held for a call of which nothing is known yet."""
PRICED = {"usage": USAGE | {"total_cost_usd": COST}}


def calls_tool(*names):
    """An answer that calls tools."""
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for number, name in enumerate(names)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return completion(choices=[choice], **PRICED)


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Run an agent or a model, in sync or async code."""

    def ask(runnable, text="Go on", config=None):
        given = text
        if not isinstance(runnable, (ChatLunar, LunarRouterChain)):
            given = {"messages": [{"role": "user", "content": text}]}
        if request.param == "async":
            return asyncio.run(runnable.ainvoke(given, config))
        return runnable.invoke(given, config)

    return ask


# Models


def test_a_budget_of_the_models_refuses_before_anything_is_sent(scripted, fault_server, run):
    fault_server.always(reply(json=completion()))
    llm = scripted(observers=[Budget(calls=1)])
    run(llm)
    with pytest.raises(BudgetExceededError) as refused:
        run(llm)
    assert len(fault_server.requests) == 1
    assert (refused.value.unit, refused.value.spent, refused.value.asked) == ("calls", 1, 1)
    assert refused.value.is_retryable is False
    assert lunar_retry_on(refused.value) is False
    assert pickle.loads(pickle.dumps(refused.value)).limit == 1


def test_a_block_adds_a_budget_in_the_threads_of_a_batch_too(scripted, fault_server):
    fault_server.always(reply(json=completion()))
    budget = Budget(calls=3)
    with observing(budget):
        answers = scripted().batch(["a", "b", "c", "d", "e"], return_exceptions=True)
    assert sorted(isinstance(answer, BudgetExceededError) for answer in answers) == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert (budget.state().spent, budget.state().refused) == (3, 2)


@pytest.mark.parametrize("kind", ["model", "chain"])
def test_a_weight_may_be_a_function_which_no_dump_and_no_cache_key_has(
    chat, run, lunar_sandbox, kind
):
    budget = Budget(usd=1, per="user", reserve="0.1")
    weight = budget.cost_weight(1, top=50)
    cache = InMemoryCache()
    if kind == "model":
        routed = chat("router", models=PAIR, cost_weight=weight, observers=[budget], cache=cache)
    else:
        given = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
        routed = LunarRouterChain(models=PAIR, cost_weight=weight, observers=[budget], **given)
    with tags(user="u1"):
        run(routed, "one")
        for number in range(8):
            budget.before(CallStart(f"held_{number}", "router", "router", {}, tags={"user": "u1"}))
        run(routed, "two")
    first, second = [json.loads(r["body"])["cost_weight"] for r in lunar_sandbox.requests()]
    assert (first, second) == (1.0, pytest.approx(1 + 49 * 0.3 / 0.5, abs=0.1))
    assert "cost_weight" not in dumps(routed)
    assert routed.model_dump()["cost_weight"] is None
    assert all("cost_weight" not in key[1] for key in cache._cache)
    twin = copy.deepcopy(routed)
    assert twin.cost_weight() == 1.0


def test_a_function_given_to_one_call_is_in_no_cache_key(chat, run):
    cache = InMemoryCache()
    llm = chat("router", models=PAIR, cache=cache)
    for number in range(2):
        llm.invoke("one", cost_weight=lambda number=number: number)
    (key,) = cache._cache
    assert "cost_weight" not in key[1]


# Agents


def agent_of(llm, middleware, *tools, **settings):
    return create_agent(llm, tools=list(tools), middleware=[middleware], **settings)


def look() -> str:
    """Look around."""
    return "Nothing to see."


def ending(result):
    """The last message, which says why the run has ended."""
    message = result["messages"][-1]
    assert isinstance(message, AIMessage)
    assert message.tool_calls == []
    return message


def test_each_run_may_take_so_much_and_ends_with_a_message_that_says_so(
    scripted, fault_server, run
):
    fault_server.always(reply(json=calls_tool("look")))
    agent = agent_of(scripted(), LunarBudgetMiddleware(usd_per_run=COST * 3), look)
    for _ in range(2):
        fault_server.requests.clear()
        last = ending(run(agent))
        assert len(fault_server.requests) == 3
        assert "The run has ended here: budget 'run'" in last.content
        assert last.response_metadata["budget"] == {
            "budget": "run",
            "key": None,
            "unit": "usd",
            "limit": "0.03",
            "spent": "0.03",
            "held": "0",
            "asked": "0.01",
            "resets_at": None,
        }
        json.dumps(last.response_metadata)


def test_it_raises_where_that_is_asked_for(scripted, fault_server, run):
    fault_server.always(reply(json=calls_tool("look")))
    guard = LunarBudgetMiddleware(Budget(calls=2), exit_behavior="error")
    agent = agent_of(scripted(), guard, look)
    with pytest.raises(BudgetExceededError):
        run(agent)
    assert len(fault_server.requests) == 2


def test_a_budget_is_shared_by_all_runs(scripted, fault_server, run):
    fault_server.always(reply(json=completion("done")))
    budget = Budget(calls=3)
    agent = agent_of(scripted(), LunarBudgetMiddleware(budget))
    last = [ending(run(agent)) for _ in range(5)]
    assert ["budget" in message.response_metadata for message in last] == [False] * 3 + [True] * 2
    assert len(fault_server.requests) == 3


def test_with_neither_it_ends_runs_that_the_models_own_budget_refuses(scripted, fault_server, run):
    fault_server.always(reply(json=calls_tool("look")))
    llm = scripted(observers=[Budget(calls=1, name="own")])
    last = ending(run(agent_of(llm, LunarBudgetMiddleware(), look)))
    assert last.response_metadata["budget"]["budget"] == "own"


def test_what_tools_and_sub_agents_ask_counts_and_calls_of_theirs_that_are_refused_are_answered(
    scripted, fault_server, run
):
    helper = scripted("helper")
    sub_agent = create_agent(helper, tools=[])

    def think() -> str:
        """Think with another model."""
        return str(helper.invoke("think").content)

    def delegate() -> str:
        """Have another agent do it."""
        return sub_agent.invoke({"messages": [{"role": "user", "content": "do"}]})["messages"][
            -1
        ].content

    fault_server.script(
        reply(json=calls_tool("think")),
        reply(json=completion("a thought", **PRICED)),
        reply(json=calls_tool("delegate")),
        reply(json=completion("it is done", **PRICED)),
        reply(json=calls_tool("think", "look")),
    )
    agent = agent_of(scripted(), LunarBudgetMiddleware(usd_per_run=COST * 5), think, delegate, look)
    result = run(agent)
    assert len(fault_server.requests) == 5
    last = ending(result)
    assert last.response_metadata["budget"]["spent"] == "0.05"
    answers = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert [message.tool_call_id for message in answers] == ["c0", "c0", "c0", "c1"]
    assert [message.status for message in answers] == ["success", "success", "error", "success"]
    assert answers[2].content.startswith("Not done: budget 'run'")


def test_runs_side_by_side_share_nothing(scripted, fault_server):
    fault_server.always(reply(json=calls_tool("look")))
    agent = agent_of(scripted(), LunarBudgetMiddleware(usd_per_run=COST * 2), look)
    given = {"messages": [{"role": "user", "content": "Go on"}]}

    async def side_by_side():
        return await asyncio.gather(*(agent.ainvoke(given) for _ in range(5)))

    for result in asyncio.run(side_by_side()):
        assert ending(result).response_metadata["budget"]["spent"] == "0.02"
    assert len(fault_server.requests) == 10


def test_a_thread_that_goes_on_later_begins_anew(scripted, fault_server, run):
    fault_server.always(reply(json=calls_tool("look")))
    guard = LunarBudgetMiddleware(usd_per_run=COST * 2)
    agent = agent_of(scripted(), guard, look, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t1"}}
    for times in (1, 2):
        ending(run(agent, config=config))
        assert len(fault_server.requests) == 2 * times
    assert "lunar_run" not in run(agent, config=config)
    assert not guard._runs


def test_a_streamed_run_ends_the_same_way(chat, lunar_sandbox):
    agent = agent_of(chat(), LunarBudgetMiddleware(Budget(calls=0)), look)
    given = {"messages": [{"role": "user", "content": "Go on"}]}
    *_, last = agent.stream(given, stream_mode="values")
    assert "budget" in ending(last).response_metadata
    assert lunar_sandbox.requests() == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budget": 5}, "budget"),
        ({"usd_per_run": -1}, "usd_per_run"),
        ({"usd_per_run": "a lot"}, "usd_per_run"),
        ({"usd_per_run": True}, "usd_per_run"),
        ({"exit_behavior": "stop"}, "exit_behavior"),
    ],
)
def test_what_cannot_work_is_named(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        LunarBudgetMiddleware(**options)
