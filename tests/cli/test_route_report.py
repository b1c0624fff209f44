"""`lunar-llm route-report`: numbers on stdout, all about them on stderr; money is spent only within a budget."""

import json
import re
import sys
from decimal import Decimal

import pytest

from lunar_core.cli import main


@pytest.fixture
def sandbox(lunar_sandbox_factory):
    return lunar_sandbox_factory(dialect="observed")


@pytest.fixture
def lunar(sandbox, monkeypatch, capsys):
    """Run the command; (exit code, stdout, stderr)."""
    monkeypatch.setenv("LUNAR_API_KEY", sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", sandbox.url)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lunar-llm", "route-report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Write haiku {n}.", "answer": "yes"} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_it_reports_decisions_and_spends_nothing(lunar, prompts, sandbox):
    code, out, err = lunar(prompts, "--weights", "0,20")
    assert code == 0
    assert out.startswith("4 prompts, routed but not answered, against gpt-4o alone.\n")
    assert "What this does not show:" in out
    assert err == "Asking for 4 prompts × 2 weights = 8 decisions …\n"
    assert sandbox.billed() == []


def test_other_programs_get_json_and_readers_a_page(lunar, prompts, tmp_path):
    page = tmp_path / "report.html"
    code, out, _err = lunar(prompts, "--json", "--html", page)
    report = json.loads(out)
    assert (code, report["prompts"], report["answers"]) == (0, 4, None)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(lunar, prompts, tmp_path):
    page = tmp_path / "report.html"
    code, out, _err = lunar(
        prompts, "--baseline", "gpt-\udcff", "--html", page
    )  # a byte, not UTF-8
    assert code == 0
    assert "against gpt-? alone" in out
    assert "against gpt-? alone" in page.read_text(encoding="utf-8")


def test_answers_are_paid_for_within_a_budget_after_it_was_said_how_much(
    lunar, prompts, sandbox, tmp_path
):
    pairs = tmp_path / "pairs.jsonl"
    answers = ("--answers", "3", "--judge", "exact:answer", "--budget", "0.5", "--pairs", pairs)
    code, out, err = lunar(prompts, *answers)
    assert code == 0
    (most,) = re.findall(r"by list prices \$([0-9.]+) at most. No call is sent", err)
    assert sandbox.total_billed() <= Decimal(most) <= Decimal("0.5")
    assert "that could pass the budget of 0.5 USD." in err
    assert f"spent: {sandbox.total_billed():f} USD" in out
    assert len(pairs.read_text(encoding="utf-8").splitlines()) == 3


MARKED = []


def interrupt(_fields, answer):
    """A judge at whose 40th mark somebody presses Ctrl-C: two marks for each prompt, 16 prompts at a time."""
    MARKED.append(answer)
    if len(MARKED) == 40:
        raise KeyboardInterrupt
    return len(answer)


def test_ctrl_c_loses_no_pair_that_was_paid_for(lunar, tmp_path, sandbox, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "MARKED", [])
    path, pairs = tmp_path / "many.txt", tmp_path / "pairs.jsonl"
    path.write_text("\n".join(f"Write haiku {n}." for n in range(40)), encoding="utf-8")
    routing = ("--models", "gpt-4o,gpt-4o-mini", "--weights", "100")
    answers = ("--answers", "40", "--judge", f"python:{__name__}:interrupt", "--budget", "1")
    code, _out, err = lunar(path, *routing, *answers, "--pairs", pairs)
    assert (code, "Traceback" in err) == (130, False)
    assert len(pairs.read_text(encoding="utf-8").splitlines()) == 16


def test_a_budget_that_ends_the_answers_ends_the_command_with_3(lunar, prompts, sandbox):
    answers = ("--answers", "4", "--judge", "exact:answer", "--budget", "0")
    code, out, _err = lunar(prompts, *answers)
    assert code == 3
    assert "ended early, 0 of 4" in out
    assert sandbox.billed() == []


PAID = ["--answers", "3", "--budget", "1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--answers", "3"], "--judge and --budget too"),
        (["--answers", "3", "--judge", "exact:answer"], "--judge and --budget too"),
        (["--budget", "3"], "are for --answers"),
        (["--answers", "0", "--judge", "exact:answer", "--budget", "1"], "--answers"),
        (["--answers", "3", "--judge", "me", "--budget", "1"], "judge: expected exact:FIELD"),
        (["--answers", "3", "--judge", "exact:answer", "--budget", "-1"], "--budget"),
        (["--weights", "0,cheap"], "--weights"),
        (["--weights=-1"], "weights"),
        (["--within", "2"], "within"),
        (["--baseline", ""], "baseline"),
        (["--models", "gpt-4o"], "models"),
        (["--models", "gpt-4o,"], "models"),
        (["--html", "none/report.html"], "--html: none/report.html cannot be written"),
        (["--html", "."], "--html: . cannot be written"),
        ([*PAID, "--judge", "exact:reply"], "line 1 has no field 'reply'"),
        ([*PAID, "--judge", "exact:answer", "--weight", "3"], "--weight: 3 is none of --weights"),
        ([*PAID, "--judge", "exact:answer", "--pairs", "none/pairs.jsonl"], "--pairs: none"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_sent(
    arguments, words, lunar, prompts, sandbox
):
    code, out, err = lunar(prompts, *arguments)
    assert (code, out) == (2, "")
    assert words in err.replace("\n", " ")
    assert sandbox.requests() == []


def test_a_file_that_is_not_there_is_named(lunar, tmp_path):
    code, _out, err = lunar(tmp_path / "none.txt")
    assert code == 2
    assert "none.txt cannot be read" in err
