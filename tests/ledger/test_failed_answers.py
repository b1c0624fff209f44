"""What a failed answer cost is billed: it is in the ledger beside the cost of the answer that came after it."""

import pytest

from lunar_core import AnswerFailedError, AsyncLunar, Budget, Ledger, Lunar
from tests.billed_failures import ANSWER_COST, COST, FAILURE, FAILURE_COST, SCRIPTS, STEPS
from tests.faults import FaultServer

KEY = "pk_test_1234"
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("form", SCRIPTS)
def test_it_is_added_up(form, steps, server):
    server.script(*SCRIPTS[form])
    ledger = Ledger()
    with Lunar(KEY, base_url=server.origin, observers=[ledger], **steps) as client:
        streamed = form == "streamed"
        answer = client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed)
        if streamed:
            answer.get_final_completion()
        assert answer.cost == ANSWER_COST
    assert (ledger.total_cost, ledger.unpriced, ledger.total.calls) == (COST, 0, 1)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
async def test_it_is_added_up_in_async_code(steps, server):
    server.script(*SCRIPTS["plain"])
    ledger = Ledger()
    async with AsyncLunar(KEY, base_url=server.origin, observers=[ledger], **steps) as client:
        await client.chat.completions.create(model="m", messages=MESSAGES)
    assert ledger.total_cost == COST


def test_a_call_of_failures_alone_cost_what_each_of_them_did(server):
    server.script(FAILURE, FAILURE)
    ledger = Ledger()
    with (
        Lunar(KEY, base_url=server.origin, observers=[ledger], max_retries=1) as client,
        pytest.raises(AnswerFailedError),
    ):
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert ledger.total_cost == 2 * FAILURE_COST


def test_a_store_keeps_what_each_attempt_cost(server, tmp_path):
    server.script(*SCRIPTS["plain"])
    with (
        Ledger.open(tmp_path / "costs.db") as ledger,
        Lunar(KEY, base_url=server.origin, observers=[ledger]) as client,
    ):
        client.chat.completions.create(model="m", messages=MESSAGES)
        (entry,) = ledger
        costs = [attempt.cost_usd for attempt in entry.attempts]
        assert (costs, ledger.total_cost) == ([float(FAILURE_COST), None], COST)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_budget_counts_what_was_stated_and_assumes_nothing(steps, server):
    server.script(*SCRIPTS["plain"])
    budget = Budget(usd=5, reserve=1)
    with Lunar(KEY, base_url=server.origin, observers=[budget], **steps) as client:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert (budget.state().spent, budget.state().assumed) == (COST, 0)
