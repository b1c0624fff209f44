"""Each result of a tool names the call that it answers, whatever ids a conversation came with."""

import pytest

from lunar_core.wire.tool_results import match_results


def called(*ids):
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name, call_id in zip("fg", ids, strict=False)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(call_id, **fields):
    return {"role": "tool", "tool_call_id": call_id, "content": "r", **fields}


def ids_in(turns):
    calls, *results = match_results(turns)
    return [call["id"] for call in calls["tool_calls"]], [turn["tool_call_id"] for turn in results]


def test_ids_that_differ_stay_and_so_does_the_order_of_the_results():
    assert ids_in([called("c1", "c2"), result("c2"), result("c1")]) == (["c1", "c2"], ["c2", "c1"])


@pytest.mark.parametrize("call_id", ["", "c1"], ids=["none", "one for both"])
def test_calls_without_ids_of_their_own_are_answered_in_order(call_id):
    made, answered = ids_in([called(call_id, call_id), result(call_id), result(call_id)])
    assert made == answered
    assert len(set(made)) == 2


def test_an_id_that_came_in_an_earlier_turn_is_another_calls():
    first, _, second, answered = match_results(
        [called("call_0"), result("call_0"), called("call_0"), result("call_0")]
    )
    assert first["tool_calls"][0]["id"] == "call_0"
    assert second["tool_calls"][0]["id"] == answered["tool_call_id"] != "call_0"


def test_a_result_that_names_the_tool_is_that_tools():
    by_id = ids_in([called("", ""), result("g"), result("f")])
    by_field = ids_in([called("", ""), result("", name="g"), result("", name="f")])
    assert by_id == by_field
    assert by_id[1] == by_id[0][::-1]


def test_a_result_of_no_call_stays_as_it_is():
    assert ids_in([called("c1"), result("c1"), result("c9")]) == (["c1"], ["c1", "c9"])
