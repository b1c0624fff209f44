"""`lunar-llm chat` as a conversation on a terminal, with its running cost, and how a single prompt gets in."""

import io
import json
import re
import sys
import time

import pytest

CTRL_C, CTRL_D = "\x03", "\x04"
PROMPT_SECONDS = 0.3
"""Readline shows its prompt a moment before it waits, and CPython hears of a signal between the two at the next key."""


def questions(sandbox):
    """The bodies of what a model, or the router, was asked."""
    return [json.loads(record["body"]) for record in sandbox.requests() if record["body"]]


def test_a_conversation_remembers_and_shows_what_it_has_cost_so_far(on_a_terminal, lunar_sandbox):
    session = on_a_terminal("chat", "-m", "gpt-4o-mini", "--system", "Be brief.")
    session.wait_for("Talking with gpt-4o-mini.*> ")
    session.type("Say one\n")
    first = session.wait_for(r"so far \$[\d.]+.*> ")
    assert "\none\ngpt-4o-mini · " in first
    session.type("Say two\n")
    second = session.wait_for(r"so far \$[\d.]+.*> ")
    session.type(CTRL_D)
    code, _rest = session.end()
    bills = [bill["total_cost_usd"] for bill in lunar_sandbox.billed()]
    assert code == 0
    assert f"so far ${sum(bills):.8f}".rstrip("0") in second
    assert [message["content"] for message in questions(lunar_sandbox)[1]["messages"]] == [
        "Be brief.",
        "Say one",
        "one",
        "Say two",
    ]


def test_what_the_service_does_not_state_is_estimated_with_its_own_prices(
    on_a_terminal, lunar_sandbox_factory
):
    observed = lunar_sandbox_factory(dialect="observed")
    session = on_a_terminal("chat", "-m", "gpt-4o", LUNAR_BASE_URL=observed.url)
    session.wait_for("> ")
    session.type("Say one two three\n")
    shown = session.wait_for("so far.*> ")
    amount = re.search(r"cost not stated, about (\$0\.0\d+) by the prices of the service", shown)[1]
    assert f"so far about {amount} that was not stated\n" in shown
    assert "Warning" not in shown


def test_its_model_can_be_changed_and_its_memory_emptied(on_a_terminal, lunar_sandbox):
    session = on_a_terminal("chat", "--route")
    session.wait_for("Talking with router.*> ")
    session.type("Say one\n")
    session.wait_for("so far.*> ")
    session.type("/model gpt-4o\n/new\nSay two\n")
    shown = session.wait_for("so far.*> ")
    session.type("/cost\n/nonsense\n/exit\n")
    code, rest = session.end()
    last = json.loads(lunar_sandbox.requests()[-1]["body"])
    assert "gpt-4o · " in shown
    assert (last["model"], last["messages"]) == ("gpt-4o", [{"role": "user", "content": "Say two"}])
    assert "/new" in rest
    assert code == 0


def test_an_error_does_not_end_it_and_the_question_is_taken_back(on_a_terminal, lunar_sandbox):
    session = on_a_terminal("chat", "-m", "nope")
    session.wait_for("> ")
    session.type("Say one\n")
    session.wait_for("Error: 404: .*> ")
    session.type("/model gpt-4o\nSay two\n")
    session.wait_for("\ntwo\n.*> ")
    messages = json.loads(lunar_sandbox.requests()[-1]["body"])["messages"]
    assert messages == [{"role": "user", "content": "Say two"}]


def test_ctrl_c_stops_an_answer_and_ends_at_the_prompt_when_pressed_twice(on_a_terminal):
    session = on_a_terminal("chat", "-m", "gpt-4o!hang-mid")
    session.wait_for("> ")
    session.type("Count to 40\n")
    session.wait_for("1 2 ")
    session.type(CTRL_C)
    session.wait_for(r"stopped, and forgotten · so far 1 answer of unknown cost.*> ")
    time.sleep(PROMPT_SECONDS)
    session.type(CTRL_C)
    session.wait_for("Ctrl-C again, or Ctrl-D, ends.*> ")
    time.sleep(PROMPT_SECONDS)
    session.type(CTRL_C)
    assert session.end()[0] == 130


def test_an_empty_line_asks_nothing(on_a_terminal, lunar_sandbox):
    session = on_a_terminal("chat")
    session.wait_for("> ")
    session.type("\n   \n/exit\n")
    assert session.end()[0] == 0
    assert questions(lunar_sandbox) == []


def test_without_a_key_no_conversation_begins(on_a_terminal):
    session = on_a_terminal("chat", LUNAR_API_KEY="", LUNAR_JWT="")
    code, shown = session.end()
    assert code == 2
    assert "LUNAR_API_KEY" in shown


# One prompt


def test_without_a_prompt_stdin_is_the_prompt(lunar, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Say hello to stdin"))
    assert lunar("chat")[:2] == (0, "hello to stdin\n")


def test_a_model_has_a_short_option(lunar, lunar_sandbox):
    lunar("chat", "Hi", "-m", "gpt-4o")
    assert json.loads(lunar_sandbox.requests()[0]["body"])["model"] == "gpt-4o"


@pytest.mark.parametrize("prompt", ["", "  \n", "-"])
@pytest.mark.parametrize("command", ["chat", "route"])
def test_an_empty_prompt_is_refused_before_it_is_billed(
    command, prompt, lunar, lunar_sandbox, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    code, out, err = lunar(command, prompt)
    assert (code, out) == (2, "")
    assert err.startswith("Error: prompt: is empty, and its answer would be billed all the same.")
    assert lunar_sandbox.requests() == []


def test_bytes_that_are_no_text_are_refused_in_one_line(lunar, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    code, _out, err = lunar("chat")
    assert (code, err) == (2, "Error: prompt: stdin is not text in utf-8\n")


def test_a_model_and_the_router_are_not_asked_for_together(lunar):
    code, _out, err = lunar("chat", "Hi", "-m", "gpt-4o", "--route")
    assert (code, err) == (2, "Error: --model, --route: give one of the two\n")


def test_an_answer_that_was_cut_off_says_so(lunar):
    assert "cut off at max_tokens" in lunar("chat", "Count to 40", "--max-tokens", "3")[2]
