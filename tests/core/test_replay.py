"""What a model signed goes back to it and to no other; names and texts are made fit for the API."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lunar_core import ConfigurationError, bridge
from lunar_core.wire.output import parse_tool_arguments
from lunar_core.wire.replay import (
    add_call_extra,
    find_open_tool_loop,
    is_same_model,
    read_call_extra,
)
from lunar_core.wire.text import join_surrogates
from lunar_core.wire.tool_names import fit_name, fit_names

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
EXTRA = {"extra_content": {"google": {"thought_signature": "S"}}, "function": {"note": 1}}


def test_fields_beside_the_known_ones_of_a_call_come_off_and_go_on_again():
    signed = {**CALL, "extra_content": EXTRA["extra_content"]}
    signed["function"] = {**CALL["function"], "note": 1}
    assert read_call_extra(signed) == EXTRA
    assert add_call_extra(CALL, EXTRA) == signed
    assert read_call_extra(CALL) == {}


@pytest.mark.parametrize(
    ("roles", "start"),
    [
        ([], 0),
        (["user"], 1),
        (["user", "assistant"], 2),
        (["user", "assistant", "tool"], 1),
        (["user", "assistant", "user", "assistant", "tool", "assistant", "tool"], 3),
        (["assistant", "tool"], 0),
    ],
)
def test_an_open_tool_loop_begins_behind_the_last_question(roles, start):
    assert find_open_tool_loop(roles) == start


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("mistral-small", "mistral-small-latest", True),
        ("gemini-2.5-pro", "gemini-2.5-pro-preview", True),
        ("claude-sonnet-4", "claude-sonnet-4@20250514", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4", False),
        ("o1", "o1-preview-of-something", False),
    ],
)
def test_a_model_is_the_same_by_any_of_its_names(name, other, same):
    assert is_same_model(name, other) is same
    assert is_same_model(other, name) is same


@given(st.lists(st.text(max_size=80), max_size=8))
@example(["a" * 65, "a" * 66, "é" * 65])
def test_names_that_are_sent_fit_and_no_two_meet(names):
    sent = fit_names(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in sent.values())
    assert len(set(sent.values())) == len(sent) == len(set(names))
    assert all(sent[name] == name for name in names if fit_name(name) == name)


@given(st.text())
def test_text_without_halves_stays_what_it_is(text):
    assert join_surrogates(text) == text


@given(st.text(st.characters(categories=["Cs"])))
def test_halves_of_pairs_can_be_written(text):
    join_surrogates(text).encode()


def test_arguments_that_hold_a_lone_half_can_be_sent_again():
    (text,) = parse_tool_arguments('{"x": "\\ud83d"}').values()
    assert text == "\ufffd"
    assert bridge.write_arguments({"x": "caf\udce9"}, "messages[0]") == '{"x": "caf\ufffd"}'


def test_arguments_that_json_cannot_carry_are_refused_with_their_place():
    with pytest.raises(ConfigurationError, match=r"^messages\[3\]: arguments"):
        bridge.write_arguments({"x": object()}, "messages[3]")
