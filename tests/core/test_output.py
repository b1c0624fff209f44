"""Half an object is no object: what a model wrote as JSON is judged once, strictly, when it has ended."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import OutputTruncatedError, bridge
from lunar_core.wire.output import is_cut_off, judge_calls, make_truncated_error

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, min_size=1, max_size=3)


@given(OBJECTS)
def test_a_whole_object_is_its_value(value):
    text = json.dumps(value)
    assert bridge.parse_arguments(text, finish_reason="length") == value
    assert bridge.parse_output(text, finish_reason="length") == value
    assert not is_cut_off(text)


@given(OBJECTS, st.data())
def test_an_object_that_was_cut_anywhere_is_none(value, data):
    text = json.dumps(value)
    half = text[: data.draw(st.integers(1, len(text) - 1))]
    assert bridge.parse_arguments(half, finish_reason="tool_calls") is None
    with pytest.raises(OutputTruncatedError) as raised:
        bridge.parse_output(half, finish_reason="stop")
    assert raised.value.output == half


@pytest.mark.parametrize(
    "text", ["{'city': 'Rome'}", '"Rome"', "[1]", "```json\n{}\n```", '{"a": [1, 2}']
)
def test_arguments_that_are_no_json_object_are_none(text):
    assert bridge.parse_arguments(text) is None


@pytest.mark.parametrize("text", [None, "", " ", "null"])
def test_no_arguments_are_an_empty_object_and_under_the_token_limit_unknown(text):
    assert bridge.parse_arguments(text, finish_reason="tool_calls") == {}
    if text != "null":
        for reason in ("length", "max_tokens", "MAX_TOKENS"):
            assert bridge.parse_arguments(text, finish_reason=reason) is None


def test_a_line_break_inside_a_string_is_let_be():
    assert bridge.parse_arguments('{"text": "a\nb"}') == {"text": "a\nb"}


@pytest.mark.parametrize("text", ["Rome is nice.", "{'city'}", "[1, 2}"])
def test_what_is_no_json_at_all_was_not_truncated(text):
    with pytest.raises(ValueError, match=r"."):
        bridge.parse_output(text, finish_reason="stop")
    assert not is_cut_off(text)


@pytest.mark.parametrize("text", [None, "", "Rome is"])
def test_under_the_token_limit_whatever_is_no_json_was_truncated(text):
    with pytest.raises(OutputTruncatedError):
        bridge.parse_output(text, finish_reason="length")


def test_the_error_names_the_limit_the_reason_and_what_had_come():
    with pytest.raises(OutputTruncatedError) as raised:
        bridge.parse_output('{"items": ["a", "b', finish_reason="length", token_limit=5)
    error = raised.value
    for named in ("max_tokens=5", "'length'", '{"items": ["a", "b'):
        assert named in str(error)
    assert (error.token_limit, error.finish_reason) == (5, "length")
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    assert len(str(make_truncated_error("x" * 9_999))) < 1_000


def called(arguments, name="f"):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def custom(text):
    return {"type": "custom", "custom": {"name": "run", "input": text}}


def test_a_call_may_run_if_it_names_a_tool_and_its_arguments_came_whole():
    calls = [called("{}"), called(""), called("{"), called("{}", name=""), custom("ls")]
    assert judge_calls(calls) == [True, True, False, False, True]
    assert judge_calls([]) == []


@pytest.mark.parametrize("last", [called(""), called(None), custom("l"), custom("")])
def test_the_token_limit_cuts_off_the_last_call_alone(last):
    assert judge_calls([last, last], finish_reason="length") == [True, False]
