"""Budgets in LlamaIndex: the same error out of every endpoint, agents and query engines; weights that are functions."""

from __future__ import annotations

import copy
import json

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent

from lunar_core import Budget, BudgetExceededError, observing, tags
from tests.faults_steps import completion, reply
from tests.llama_index.support import ENDPOINTS, WEATHER, ask, request_body

pytestmark = [
    # LlamaIndex's agents look at each of their own attributes, pydantic's deprecated ones included.
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
]


@pytest.fixture(params=["observers", "observing"])
def limited(request, llm_on, faults):
    """An LLM and a budget that refuses its second call: the LLM's own, or that of a block."""
    faults.always(reply(json=completion("fine")))
    budget = Budget(calls=1)
    if request.param == "observers":
        yield llm_on(faults, observers=[budget])
        return
    with observing(budget):
        yield llm_on(faults)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_endpoint_raises_the_refusal_before_anything_is_sent(
    llm_on, lunar_sandbox, recorder, endpoint
):
    budget = Budget(calls=1)
    llm = llm_on(lunar_sandbox)
    with observing(budget):
        await ask(llm, endpoint)
        with pytest.raises(BudgetExceededError) as refused:
            await ask(llm, endpoint)
    assert (refused.value.unit, refused.value.spent, refused.value.limit) == ("calls", 1, 1)
    assert len(lunar_sandbox.requests()) == len(recorder.usage) == 1


async def test_a_function_agent_raises_it(limited, faults):
    agent = FunctionAgent(tools=[WEATHER], llm=limited, streaming=False)
    await agent.run(user_msg="Hello")
    with pytest.raises(BudgetExceededError):
        await agent.run(user_msg="Hello")
    assert len(faults.requests) == 1


async def test_a_query_engine_raises_it(limited, faults):
    index = VectorStoreIndex.from_documents([Document(text="Mars has two moons.")])
    engine = index.as_query_engine(llm=limited)
    engine.query("Which moons does Mars have?")
    with pytest.raises(BudgetExceededError):
        await engine.aquery("Which moons does Mars have?")
    assert len(faults.requests) == 1


async def test_an_observer_of_a_block_that_refuses_leaves_no_event(llm_on, faults, recorder):
    with observing(Budget(calls=0)), pytest.raises(BudgetExceededError):
        await ask(llm_on(faults), "achat")
    assert recorder.usage == []
    assert faults.requests == []


async def test_the_weight_of_cost_may_be_a_function_which_nothing_stores(llm_on, lunar_sandbox):
    budget = Budget(usd=1, per="user", reserve=0)
    weight = budget.cost_weight(1)
    llm = llm_on(
        lunar_sandbox, model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=weight
    )
    with tags(user="u1"):
        await ask(llm, "achat")
        await ask(copy.deepcopy(llm), "complete")
    assert [request_body(r)["cost_weight"] for r in lunar_sandbox.requests()] == [1.0, 1.0]
    assert llm.to_dict()["cost_weight"] is None
    assert "cost_weight" not in llm.to_payload()
    json.dumps(llm.to_dict())
