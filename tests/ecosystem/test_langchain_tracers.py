"""What tracers of LangChain show of a routed call: the model that answered, and the bill as the service stated it."""

import pytest

PROGRAMS = [
    ("langchain_with_spans", "openinference"),
    ("langchain_with_spans", "openllmetry"),
    ("langchain_with_spans", "langfuse"),
    ("langchain_with_mlflow",),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program[-1])
def test_the_routed_model_and_the_bill_are_shown_and_the_key_is_not(program, run_program):
    shown = run_program(*program)
    assert shown.keys() == {"invoke", "stream", "ainvoke", "astream"}
    for way, facts in shown.items():
        assert facts["stated"]["model"] != "router", way
        assert {name: facts[name] for name in ("model", "cost")} == facts["stated"], way
        assert facts["has_key"] is False
