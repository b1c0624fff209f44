"""`lunar-llm compare`: one prompt, several models, side by side."""

import io
import json
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from tests.faults import FaultServer
from tests.faults_steps import completion, reply


def rows_of(text):
    return [line.rstrip() for line in text.splitlines()]


def test_answers_stand_side_by_side_on_a_terminal(on_a_terminal, lunar_sandbox):
    session = on_a_terminal("compare", "Say hello", "gpt-4o", "gpt-4o-mini", "router")
    code, shown = session.end()
    head, words, _, costs, times, tokens = [line.split() for line in rows_of(shown)]
    bills = {bill["model"]: bill["total_cost_usd"] for bill in lunar_sandbox.billed()}
    assert code == 0
    assert head[:4] == ["gpt-4o", "gpt-4o-mini", "router", "→"]
    assert words == ["hello"] * 3
    assert [Decimal(cost.strip("$")) for cost in costs[:2]] == [
        Decimal(repr(bills["gpt-4o"])),
        Decimal(repr(bills["gpt-4o-mini"])),
    ]
    assert times[1::2] == ["ms"] * 3
    assert tokens[1::2] == ["tokens"] * 3


def test_where_they_do_not_fit_they_stand_below_each_other(on_a_terminal):
    session = on_a_terminal("compare", "Say hello", "gpt-4o", "gpt-4o-mini", COLUMNS="40")
    _code, shown = session.end()
    assert [line for line in rows_of(shown) if line.startswith("# gpt-4o")]
    assert rows_of(shown).count("hello") == 2


@pytest.mark.parametrize("columns", ["100", "40"], ids=["side by side", "below each other"])
def test_no_answer_and_no_name_steers_a_terminal(on_a_terminal, columns):
    with FaultServer() as server:
        server.always(reply(json=completion("\x1b[31mred", model="\x1b[2Jmodel")))
        arguments = ["compare", "hi", "a", "b", "--base-url", server.origin]
        _code, shown = on_a_terminal(*arguments, COLUMNS=columns).end()
    assert shown.count("[31mred") == 2
    assert shown.count("[2J") == 2
    assert "\x1b" not in shown


def test_a_pipe_gets_sections_and_no_table(lunar):
    code, out, err = lunar("compare", "Say hello", "gpt-4o", "gpt-4o-mini")
    first, words, blank, second, *_ = out.splitlines()
    assert (code, err, words, blank) == (0, "", "hello", "")
    assert first.startswith("# gpt-4o · $0.0")
    assert second.startswith("# gpt-4o-mini · $0.0")


def test_json_holds_each_answer_with_its_exact_cost(lunar, lunar_sandbox):
    _code, out, _err = lunar("compare", "Say hello", "gpt-4o", "gpt-4o-mini", "--json")
    answers = json.loads(out)
    costs = {answer["model"]: Decimal(answer["cost_usd"]) for answer in answers}
    assert costs == {
        bill["model"]: Decimal(repr(bill["total_cost_usd"])) for bill in lunar_sandbox.billed()
    }
    assert all(answer["latency_ms"] > 0 and answer["text"] == "hello" for answer in answers)


def test_the_observed_service_states_these_costs_too(lunar, lunar_sandbox_factory):
    observed = lunar_sandbox_factory(dialect="observed")
    asked = ("compare", "Say hi", "gpt-4o", "router", "--base-url", observed.url)
    assert "unknown" not in lunar(*asked)[1]


def test_one_that_fails_does_not_hide_the_others(lunar):
    code, out, _err = lunar("compare", "Say hello", "nope", "gpt-4o")
    assert code == 1
    assert "# nope\nError: 404: " in out
    assert out.endswith("\nhello\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", "gpt-4o", "gpt-4o-mini"), "prompt: is empty"),
        (("-", "gpt-4o", "gpt-4o-mini"), "prompt: is empty"),
        (("Hi", "gpt-4o"), "models: give at least two"),
        (("Hi", "gpt-4o", " "), "models: one of the names is empty"),
        (("Hi", "gpt-4o", "gpt-4o-mini", "--temperature", "9"), "temperature: "),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    arguments, words, lunar, lunar_sandbox, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, out, err = lunar("compare", *arguments)
    assert (code, out) == (2, "")
    assert f"Error: {words}" in err
    assert lunar_sandbox.requests() == []


def test_ctrl_c_waits_for_no_answer(lunar_sandbox):
    asked = ["compare", "Hi", "gpt-4o!hang", "gpt-4o-mini!hang", "--base-url", lunar_sandbox.url]
    with subprocess.Popen(
        [sys.executable, "-m", "lunar_core.cli", *asked],
        env={"LUNAR_API_KEY": lunar_sandbox.api_key, "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        ends = time.monotonic() + 30
        while len(lunar_sandbox.requests()) < 2:
            assert time.monotonic() < ends
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
