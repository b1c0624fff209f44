"""What a failed answer cost is in the handler's sum, beside the cost of the answer that came after it."""

import pytest

from langchain_lunar import get_lunar_cost
from lunar_core import AnswerFailedError
from tests.billed_failures import COST, FAILURE, FAILURE_COST, SCRIPTS, STEPS


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("form", SCRIPTS)
def test_it_is_added_up(form, steps, scripted, fault_server):
    fault_server.script(*SCRIPTS[form])
    llm = scripted("m", **steps)
    with get_lunar_cost() as cost:
        list(llm.stream("hi")) if form == "streamed" else llm.invoke("hi")
    assert (cost.total_cost, cost.unpriced) == (COST, 0)


def test_a_call_of_failures_alone_cost_what_each_of_them_did(scripted, fault_server):
    fault_server.script(FAILURE, FAILURE)
    with get_lunar_cost() as cost, pytest.raises(AnswerFailedError):
        scripted("m", max_retries=1).invoke("hi")
    assert cost.total_cost == 2 * FAILURE_COST
