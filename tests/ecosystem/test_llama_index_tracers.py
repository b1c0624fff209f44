"""What tracers of LlamaIndex show of a routed call: the model that answered, and the bill as the service stated it."""

import pytest

PROGRAMS = ["llama_index_with_openinference", "llama_index_with_mlflow"]

ENDED_TOO_EARLY = {"llama_index_with_mlflow": {"astream_chat", "astream_complete"}}
"""mlflow ends the span of an async stream before anybody has read it: nothing that comes at its end can be shown."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_routed_model_and_the_bill_are_shown_and_the_key_is_not(program, run_program):
    shown = run_program(program)
    assert len(shown) == 6
    for way, facts in shown.items():
        stated = facts["stated"]
        assert stated["model"] != "router", way
        if way in ENDED_TOO_EARLY.get(program, ()):
            assert (facts["model"], facts["cost"]) == ("router", None), way
        else:
            assert (facts["model"], facts["cost"]) == (stated["model"], stated["total_cost_usd"]), (
                way
            )
        assert facts["has_key"] is False
