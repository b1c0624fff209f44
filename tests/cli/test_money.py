"""`lunar-llm costs` and `batch`: sums of a ledger on stdout, and batches that end where their budget does."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from lunar_core import Entry, Ledger
from tests.faults import FaultServer
from tests.faults_steps import completion, reply

OCTOBER = 1_790_812_800  # 2026-10-01


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def store(tmp_path):
    """A ledger with three calls: one of October, one of November, and one of just now."""
    path = tmp_path / "costs.db"
    with Ledger.open(path) as ledger:
        ledger.add(Entry("a", "gpt-4o", cost="0.25", tags={"user": "ada"}, at=OCTOBER))
        ledger.add(
            Entry("b", "gpt-4o", cost="0.5", tags={"user": "\x1b[31mred"}, at=OCTOBER + 31 * 86_400)
        )
        ledger.add(
            Entry("c", "mistral-small-latest", "router", cost="0.000001", prompt_tokens=1_000)
        )
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def prompts(tmp_path):
    """Write the rows of a batch."""

    def write(count, **more):
        path = tmp_path / "in.jsonl"
        rows = [{"id": n, "prompt": f"Say hello {n}", **more} for n in range(count)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# costs


def test_costs_are_the_ledgers_report(lunar, store):
    code, printed, err = lunar("costs", "--store", store, "--by", "model, tag:user")
    with Ledger.open(store, read_only=True) as ledger:
        assert (code, printed, err) == (0, f"{ledger.report(by=['model', 'tag:user'])}\n", "")


def test_the_store_may_stand_in_the_environment(lunar, store, monkeypatch):
    monkeypatch.setenv("LUNAR_LEDGER", str(store))
    assert lunar("costs")[1].startswith("3 calls, $0.750001\n")


@pytest.mark.parametrize(
    ("bounds", "calls"),
    [
        (["--since", "36h"], 1),
        (["--since", "7d"], 1),
        (["--since", "1w"], 1),
        (["--since", "2026-10-01"], 3),
        (["--since", "2026-10-01T00:00:01Z"], 2),
        (["--until", "2026-11-01"], 1),
        (["--since", "2026-10-01", "--until", "2026-11-01T00:00:00+01:00"], 1),
        (["--until", "2026-10-01"], 0),
    ],
)
def test_a_time_is_so_long_ago_or_a_date_in_utc(bounds, calls, lunar, tmp_path):
    path = tmp_path / "times.db"
    with Ledger.open(path) as ledger:
        for call_id, at in (("a", OCTOBER), ("b", OCTOBER + 31 * 86_400), ("c", time.time() - 60)):
            ledger.add(Entry(call_id, "gpt-4o", cost="1", at=at))
    printed = lunar("costs", "--store", path, "--json", *bounds)[1]
    assert json.loads(printed)["total"]["calls"] == calls


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows cannot change its time zone")
def test_a_date_is_in_utc_wherever_the_machine_is(lunar, store, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        printed = lunar("costs", "--store", store, "--json", "--until", "2026-10-01T00:00:01")[1]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert json.loads(printed)["total"]["cost"] == "0.25"


def test_costs_have_three_other_forms(lunar, store, tmp_path):
    with Ledger.open(store, read_only=True) as ledger:
        report = ledger.report()
        assert lunar("costs", "--store", store, "--csv")[1] == report.to_csv()
        assert lunar("costs", "--store", store, "--json")[1] == report.to_json()
    page = tmp_path / "costs.html"
    code, printed, err = lunar("costs", "--store", store, "--html", page)
    assert (code, printed, err.replace("\n", "")) == (0, "", f"Wrote {page}")
    assert "$0.750001" in page.read_text(encoding="utf-8")


def test_routing_is_compared_with_the_model_that_is_named(lunar, store):
    printed = lunar("costs", "--store", store, "--baseline", "gpt-4o")[1]
    assert "Compared with the same tokens on gpt-4o, at the prices of genai-prices" in printed


def test_a_terminal_is_not_sent_what_steers_it(lunar, store, monkeypatch):
    for form in ([], ["--csv"], ["--json"]):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        lunar("costs", "--store", store, "--by", "tag:user", *form)
        assert "[31mred" in terminal.getvalue()
        assert "\x1b[31mred" not in terminal.getvalue()


def test_without_a_store_both_places_are_named(lunar):
    code, printed, err = lunar("costs")
    assert (code, printed) == (2, "")
    assert "--store" in err
    assert "LUNAR_LEDGER" in err


@pytest.mark.parametrize(
    "command",
    [
        ("costs",),
        ("chat", "hi"),
        ("route", "hi"),
        ("batch", "in.jsonl", "--out", "out.jsonl"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("empty", ["", " "], ids=["nothing", "a space"])
def test_a_store_without_a_name_is_refused_before_anything_is_sent(command, empty, lunar):
    code, _printed, err = lunar(*command, "--store", empty)
    assert code == 2
    assert "--store" in err
    assert "is empty" in err


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(lunar, tmp_path):
    code, _printed, err = lunar("costs", "--store", tmp_path / "none.db")
    assert (code, err.replace("\n", "")) == (
        1,
        f"Error: {tmp_path / 'none.db'} is not there; a program that opens it to write makes it",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (["--csv", "--json"], "--csv, --json, --html"),
        (["--csv", "--html", "x.html"], "--csv, --json, --html"),
        (["--since", "yesterday"], "--since"),
        (["--until", "99999999999w"], "--until"),
        (["--since", "7 d"], "--since"),
        (["--by", "user"], "by: "),
        (["--by", ""], "by: "),
        (["--baseline", ""], "baseline: "),
        (["--since", "2026-11-01", "--until", "2026-10-01"], "--since, --until: 2026-11-01"),
        (["--since", "2026-11-01", "--until", "2026-11-01"], "--since, --until: 2026-11-01"),
        (["--since", "7d", "--until", "1w"], "--since, --until: 7d"),
        (["--since", "2026-10-01", "--until", "99999d"], "--since, --until: 2026-10-01"),
    ],
)
def test_what_cannot_work_is_named(wrong, name, lunar, store):
    code, _printed, err = lunar("costs", "--store", store, *wrong)
    assert code == 2
    assert name in err


# chat and route


def test_chat_and_route_record_where_a_store_is_named(lunar, tmp_path, lunar_sandbox, monkeypatch):
    path = tmp_path / "new.db"
    assert lunar("chat", "Say hi", "--store", path)[0] == 0
    monkeypatch.setenv("LUNAR_LEDGER", str(path))
    assert lunar("route", "Prove it")[0] == 0
    with Ledger.open(path, read_only=True) as ledger:
        assert [entry.endpoint for entry in ledger][-1] == "router.decide"
        assert ledger.total_cost == lunar_sandbox.total_billed() > 0


def test_without_a_store_none_is_made(lunar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUNAR_LEDGER", "")
    assert lunar("chat", "Say hi")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_is_refused_before_anything_is_sent(lunar, tmp_path, lunar_sandbox):
    (tmp_path / "other.db").write_text("no ledger, and long enough to be seen as none" * 100)
    code, printed, err = lunar("chat", "Hi", "--store", tmp_path / "other.db")
    assert (code, printed) == (1, "")
    assert "other.db" in err
    assert lunar_sandbox.requests() == []


def test_a_wrong_store_or_page_is_named_as_its_option(lunar, tmp_path):
    code, _printed, err = lunar("costs", "--store", "mysql://host/costs")
    assert (code, err.partition(" a ledger")[0]) == (2, "Error: --store:")
    lunar("chat", "Hi", "--store", tmp_path / "costs.db")
    page = tmp_path / "nowhere" / "costs.html"
    code, _printed, err = lunar("costs", "--store", tmp_path / "costs.db", "--html", page)
    assert (code, err) == (
        2,
        f"Error: --html: {page} cannot be written: No such file or directory\n",
    )


# batch


def test_a_batch_answers_each_line_and_ends_with_0(lunar, prompts, out, lunar_sandbox, tmp_path):
    arguments = ["-m", "gpt-4o-mini", "--concurrency", 3, "--max-tokens", 9]
    code, printed, err = lunar(
        "batch", prompts(8), "--out", out, *arguments, "--store", tmp_path / "l.db"
    )
    assert (code, printed) == (0, "")
    assert sorted(line["id"] for line in lines_of(out)) == list(range(8))
    assert err.startswith("8 of 8 answered · $")
    with Ledger.open(tmp_path / "l.db", read_only=True) as ledger:
        assert (len(ledger), ledger.total_cost) == (8, lunar_sandbox.total_billed())
    bodies = [json.loads(request["body"]) for request in lunar_sandbox.requests()]
    assert {(body["model"], body["max_tokens"]) for body in bodies} == {("gpt-4o-mini", 9)}


def test_the_service_of_a_batch_can_be_named(lunar, prompts, out, lunar_sandbox, monkeypatch):
    path = prompts(3, model="gpt-4o-mini")
    monkeypatch.setenv("LUNAR_BASE_URL", "http://127.0.0.1:9")
    assert lunar("batch", path, "--out", out, "--base-url", lunar_sandbox.url)[0] == 0
    assert len(lunar_sandbox.requests()) == 3


def test_a_batch_without_a_key_makes_no_file(lunar, prompts, out, monkeypatch):
    monkeypatch.delenv("LUNAR_API_KEY")
    code, _printed, err = lunar("batch", prompts(1), "--out", out)
    assert (code, out.exists()) == (2, False)
    assert "LUNAR_API_KEY" in err


def test_a_cost_that_the_service_does_not_state_makes_the_sum_a_lower_bound(lunar, prompts, out):
    with FaultServer() as server:
        server.always(reply(json=completion(usage={"prompt_tokens": 3})))
        arguments = ["-m", "gpt-4o-mini", "--base-url", server.origin]
        code, _printed, err = lunar("batch", prompts(2), "--out", out, *arguments)
    assert (code, err) == (0, "2 of 2 answered · at least $0, 2 unknown\n")
    assert [line["cost_usd"] for line in lines_of(out)] == [None, None]


def test_a_batch_of_which_some_failed_ends_with_1_and_asks_them_again(
    lunar, prompts, out, lunar_sandbox
):
    path = prompts(3, model="gpt-4o-mini")
    with path.open("a", encoding="utf-8") as rows:
        rows.write(json.dumps({"id": "x", "prompt": "Hi", "model": "no-such-model"}) + "\n")
    code, _printed, err = lunar("batch", path, "--out", out)
    assert code == 1
    assert "3 of 4 answered · 1 failed" in err
    assert f'Why a line failed is its "error" in {out}' in err.replace("\n", " ")
    asked = len(lunar_sandbox.requests())
    code, _printed, err = lunar("batch", path, "--out", out)
    assert (code, len(lunar_sandbox.requests()) > asked) == (1, True)
    assert "3 of them before" in err
    assert [line["id"] for line in lines_of(out)][3:] == ["x", "x"]


def test_a_batch_that_its_budget_stops_ends_with_3_and_tells_what_is_unsent(lunar, prompts, out):
    path = prompts(50, model="gpt-4o-mini", max_tokens=20)
    code, _printed, err = lunar(
        "batch", path, "--out", out, "--budget", "0.0001", "--concurrency", 4
    )
    answered = len(lines_of(out))
    assert code == 3
    assert 0 < answered < 50
    assert f"{50 - answered} unsent: budget 'budget': this call may take" in err.replace("\n", " ")
    assert sum(Decimal(str(line["cost_usd"])) for line in lines_of(out)) <= Decimal("0.0001")
    assert lunar("batch", path, "--out", out, "--budget", "5")[0] == 0
    assert sorted(line["id"] for line in lines_of(out)) == list(range(50))


def test_a_budgets_prices_are_the_services_own_so_that_a_batch_needs_no_other_extra(
    lunar, prompts, out, monkeypatch
):
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as if it were not installed
    assert lunar("batch", prompts(3), "--out", out, "--budget", "5")[0] == 0
    assert len(lines_of(out)) == 3


def test_a_line_whose_price_nobody_knows_fails_by_its_name_and_the_others_are_answered(
    lunar, prompts, out, monkeypatch
):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    path = prompts(3, model="gpt-4o-mini")
    path.write_text(
        '{"id": "x", "prompt": "hi", "model": "no-such-model"}\n'
        + path.read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    code, _printed, err = lunar("batch", path, "--out", out, "--budget", "5", "--concurrency", 1)
    assert code == 1
    assert "3 of 4 answered · 1 failed" in err
    (failed, *answered) = lines_of(out)
    assert (failed["id"], len(answered)) == ("x", 3)
    assert "no price is known of no-such-model" in failed["error"]


@pytest.mark.parametrize("options", [[], ["--budget", "5"]], ids=["", "with a budget"])
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"id": 1, "prompt": "hi"}\n{"id": 1, "prompt": "ho"}\n', "line 2: id"),
        ('{"id": 1, "prompt": "hi"}\nnonsense\n', "line 2: no JSON"),
        ('{"id": 1, "prompt": "hi", "messages": []}\n', "line 1: prompt or messages"),
        ('{"prompt": "hi"}\n', "line 1: id: expected a string or a whole number that no other"),
    ],
)
def test_a_line_at_fault_is_named_and_nothing_is_sent(
    lines, words, options, lunar, tmp_path, out, lunar_sandbox
):
    path = tmp_path / "in.jsonl"
    path.write_text(lines, encoding="utf-8")
    code, _printed, err = lunar("batch", path, "--out", out, *options)
    assert code == 2
    assert f"Error: {words}" in err
    assert lunar_sandbox.requests() == []


def test_a_batch_that_has_ended_asks_nothing_not_even_prices(lunar, prompts, out, lunar_sandbox):
    arguments = ["batch", prompts(2, model="gpt-4o-mini"), "--out", out, "--budget", "5"]
    assert lunar(*arguments)[0] == 0
    sent = len(lunar_sandbox.requests())
    assert (lunar(*arguments)[0], len(lunar_sandbox.requests())) == (0, sent)


def test_of_a_file_of_something_else_a_batch_with_a_budget_asks_no_prices(
    lunar, prompts, out, lunar_sandbox
):
    out.write_text("my notes\n", encoding="utf-8")
    code, _printed, err = lunar("batch", prompts(1), "--out", out, "--budget", "5")
    assert (code, lunar_sandbox.requests()) == (2, [])
    assert "is no answer of a batch" in err


@pytest.mark.parametrize(
    "wrong",
    [["--budget", "much"], ["--budget", "-1"], ["--concurrency", "0"], ["--max-tokens", "0"]],
)
def test_so_is_an_option_at_fault(wrong, lunar, prompts, out, lunar_sandbox):
    code, _printed, err = lunar("batch", prompts(1), "--out", out, *wrong)
    assert code == 2
    assert wrong[0].strip("-").replace("-", "_") in err.replace("max-tokens", "max_tokens")
    assert lunar_sandbox.requests() == []


def test_a_file_that_is_not_there_is_named(lunar, tmp_path, out):
    code, _printed, err = lunar("batch", tmp_path / "none.jsonl", "--out", out)
    assert code == 2
    assert "none.jsonl" in err


def test_a_terminal_is_shown_how_far_it_is(lunar, prompts, out, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert lunar("batch", prompts(5, model="gpt-4o-mini"), "--out", out)[0] == 0
    assert "5/5" in terminal.getvalue()
    assert "5 of 5 answered" in terminal.getvalue()


def test_a_batch_that_was_killed_asks_nothing_again_that_is_answered(
    lunar, prompts, out, lunar_sandbox
):
    path = prompts(60, model="gpt-4o-mini!slow=0.05")
    arguments = ["batch", path, "--out", out, "--concurrency", "4"]
    with subprocess.Popen(
        [sys.executable, "-m", "lunar_core", *map(str, arguments)],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        until = time.monotonic() + 30
        while not (out.exists() and out.read_bytes().count(b"\n") >= 10):
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert lunar(*arguments)[0] == 0
    assert sorted(line["id"] for line in lines_of(out)) == list(range(60))
    assert len(lunar_sandbox.requests()) <= 60 + 4


def test_a_batch_that_is_interrupted_ends_with_130(prompts, out, lunar):
    arguments = ["batch", prompts(100, model="gpt-4o-mini!slow=0.1"), "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "lunar_core", *map(str, arguments)],
        stderr=subprocess.PIPE,
    ) as process:
        until = time.monotonic() + 30
        while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in err) == (130, False)
