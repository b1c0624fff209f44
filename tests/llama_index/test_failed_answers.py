"""What a failed answer cost is in the sum of ``lunar_cost()``, beside the cost of the answer that came after it."""

import pytest

from llama_index_lunar import LunarLLM, lunar_cost
from tests.billed_failures import COST, SCRIPTS, STEPS
from tests.faults import FaultServer
from tests.llama_index.support import user


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("form", SCRIPTS)
def test_it_is_added_up(form, steps):
    with FaultServer() as server, lunar_cost() as cost:
        server.script(*SCRIPTS[form])
        llm = LunarLLM(model="m", api_key="pk_test_1234", api_base=server.origin, **steps)
        list(llm.stream_chat(user("x"))) if form == "streamed" else llm.chat(user("x"))
        llm.close()
    assert (cost.total_cost, cost.unpriced) == (COST, 0)
