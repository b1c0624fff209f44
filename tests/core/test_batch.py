"""A batch answers each row once, in a file that a kill does not spoil, and ends where its budget ends."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from lunar_core import (
    AsyncLunar,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    Ledger,
    Lunar,
    Model,
    Prices,
    observing,
)
from lunar_core.batch import RowError, open_batch, read_rows, run
from tests.faults_steps import completion, reply


@pytest.fixture
def lunar(lunar_sandbox):
    return AsyncLunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_retries=0)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


def rows_of(count, **more):
    return [
        {"id": n, "prompt": f"Say hello {n}", "model": "gpt-4o-mini", **more} for n in range(count)
    ]


def lines_of(out):
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_each_row_is_answered_once_with_its_model_cost_and_usage(lunar, out, lunar_sandbox):
    result = run(rows_of(30), out, client=lunar)
    lines = lines_of(out)
    assert sorted(line["id"] for line in lines) == list(range(30))
    assert set(lines[0]) == {"id", "text", "model", "cost_usd", "usage"}
    assert (result.answered, result.failed, result.unsent, result.unpriced) == (30, 0, 0, 0)
    assert result.cost == lunar_sandbox.total_billed()
    assert len(lunar_sandbox.requests()) == 30


def test_rows_take_messages_and_any_parameter_of_the_call(lunar, out, lunar_sandbox):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    run([{"id": "a", "messages": messages, "temperature": 0.1}], out, client=lunar, max_tokens=7)
    (decision, *_) = lunar_sandbox.requests()
    body = json.loads(decision["body"])
    assert (body["messages"], body["temperature"], body["max_tokens"]) == (messages, 0.1, 7)
    assert lines_of(out)[0]["model"] != "router"


def test_calls_of_tools_are_part_of_an_answer(lunar, out):
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    rows = [{"id": 1, "prompt": "Add.", "tools": [tool], "tool_choice": "required"}]
    run(rows, out, client=lunar, model="gpt-4o-mini")
    (line,) = lines_of(out)
    assert [call["function"]["name"] for call in line["tool_calls"]] == ["add"]


def test_the_words_of_a_model_that_refuses_are_its_text(lunar, out, fault_server):
    message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
    fault_server.always(reply(json=completion(choices=[{"index": 0, "message": message}])))
    client = AsyncLunar("pk_test_1234", base_url=fault_server.origin)
    run(rows_of(1), out, client=client)
    assert lines_of(out)[0]["text"] == "I would rather not."


@pytest.mark.parametrize("odd", ["\ud83d", "a\u2028b\u2029c\x85d", "日本 🙂", "\x1e\n"], ids=ascii)
def test_any_text_is_one_line_and_known_again(odd, lunar, out, lunar_sandbox):
    lunar_sandbox.answer(lambda request: odd.replace("\ud83d", "x"))
    rows = [{"id": odd, "prompt": "Hi", "model": "gpt-4o-mini"}]
    run(rows, out, client=lunar)
    (line,) = lines_of(out)
    assert (line["id"], line["text"]) == (odd, odd.replace("\ud83d", "x"))
    assert run(rows, out, client=lunar).skipped == 1
    assert len(lunar_sandbox.requests()) == 1


WRONG = {
    "no id": {"prompt": "hi"},
    "an id of truth": {"id": True, "prompt": "hi"},
    "neither prompt nor messages": {"id": 2},
    "both": {"id": 2, "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]},
    "an empty prompt": {"id": 2, "prompt": "  "},
    "a stream": {"id": 2, "prompt": "hi", "stream": True},
    "a wrong parameter": {"id": 2, "prompt": "hi", "temperature": 9},
    "a wrong timeout": {"id": 2, "prompt": "hi", "timeout": "soon"},
    "a wrong total_timeout": {"id": 2, "prompt": "hi", "total_timeout": -1},
    "a wrong count of retries": {"id": 2, "prompt": "hi", "max_retries": -1},
    "wrong fallbacks": {"id": 2, "prompt": "hi", "fallbacks": 5},
    "wrong headers": {"id": 2, "prompt": "hi", "extra_headers": {"x": 5}},
    "a setting of the client": {"id": 2, "prompt": "hi", "api_key": "pk_other"},
    "no object": [1],
    "the id of another": {"id": 1, "prompt": "again"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_row_at_fault_is_named_before_anything_is_sent(
    wrong, lunar, out, tmp_path, lunar_sandbox
):
    path = tmp_path / "in.jsonl"
    first = json.dumps({"id": 1, "prompt": "hi"})
    path.write_text(f"{first}\n\n{json.dumps(wrong)}\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"^line 3: "):
        run(path, out, client=lunar)
    with pytest.raises(RowError, match=r"^row 2: "):
        run([{"id": 1, "prompt": "hi"}, wrong], out, client=lunar)
    assert lunar_sandbox.requests() == []


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "prompt": "hi"}\n{"id": 2,\n', encoding="utf-8")
    with pytest.raises(RowError, match=r"^line 2: no JSON"):
        read_rows(path)


def test_lines_nested_without_end_are_named_as_any_others(lunar, out, tmp_path):
    deep = "[" * 100_000
    path = tmp_path / "in.jsonl"
    path.write_text(deep, encoding="utf-8")
    with pytest.raises(RowError, match=r"^line 1: nested too deeply"):
        run(path, out, client=lunar)
    out.write_text(deep + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"out: line 1 of .* is no answer of a batch"):
        run(rows_of(1), out, client=lunar)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_answers_can_be_read_by_their_owner_alone(lunar, out):
    run(rows_of(1), out, client=lunar)
    assert out.stat().st_mode & 0o777 == 0o600


def test_rows_that_are_answered_are_skipped_and_failed_ones_asked_again(lunar, out, lunar_sandbox):
    rows = [*rows_of(3), {"id": "bad", "prompt": "hi", "model": "gpt-4o-mini!400"}]
    first = run(rows, out, client=lunar)
    assert (first.answered, first.failed) == (3, 1)
    (failed,) = [line for line in lines_of(out) if "error" in line]
    assert failed["id"] == "bad"
    assert failed["error"].startswith("BadRequestError: ")
    rows[-1]["model"] = "gpt-4o-mini"
    second = run(rows, out, client=lunar)
    assert (second.answered, second.skipped, second.failed) == (4, 3, 0)
    assert len(lunar_sandbox.requests()) == 5


def test_the_last_line_of_an_id_counts(lunar, out, lunar_sandbox):
    failed, answered = '{"id": %d, "error": "x"}\n', '{"id": %d, "text": "x"}\n'
    out.write_text(failed % 0 + answered % 0 + answered % 1 + failed % 1, encoding="utf-8")
    result = run(rows_of(2), out, client=lunar)
    assert (result.skipped, result.answered) == (1, 2)
    assert [line["id"] for line in lines_of(out)] == [0, 0, 1, 1, 1]
    assert len(lunar_sandbox.requests()) == 1


@pytest.mark.parametrize(
    ("torn", "asked"),
    [('{"id": 1, "te', 2), ('{"id":1,"te', 2), ('{"id": 1, "text": "x"}', 1)],
    ids=["half", "half, without spaces", "whole"],
)
def test_a_torn_last_line_is_repaired(torn, asked, lunar, out, lunar_sandbox):
    out.write_text('{"id": 0, "text": "x"}\n' + torn, encoding="utf-8")
    run(rows_of(3), out, client=lunar)
    assert sorted(line["id"] for line in lines_of(out)) == [0, 1, 2]
    assert len(lunar_sandbox.requests()) == asked


@pytest.mark.parametrize("end", ["\n", ""], ids=["whole", "without an end of its last line"])
@pytest.mark.parametrize(
    "words",
    [
        "my notes\nof today",
        "my notes",
        '{"id": 0, "prompt": "Say hello"}',
        '{"idea": "x',
        '{"id": true, "text": "x"}',
    ],
)
def test_a_file_of_something_else_is_left_as_it_was(words, end, lunar, out, lunar_sandbox):
    out.write_text(words + end, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="out: line 1 of"):
        run(rows_of(1), out, client=lunar)
    assert out.read_text(encoding="utf-8") == words + end
    assert lunar_sandbox.requests() == []


def test_the_rows_own_file_is_not_taken_for_their_answers(lunar, out, lunar_sandbox):
    rows = "".join(json.dumps(row) + "\n" for row in rows_of(3))
    out.write_text(rows, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="out: line 1 of"):
        run(out, out, client=lunar)
    assert out.read_text(encoding="utf-8") == rows
    assert lunar_sandbox.requests() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither of the two")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_what_is_no_file_is_refused(device, lunar, lunar_sandbox):
    with pytest.raises(ConfigurationError, match=f"out: {device} is no file"):
        run(rows_of(1), device, client=lunar)
    assert lunar_sandbox.requests() == []


def test_a_full_disk_ends_the_batch_names_the_file_and_loses_no_answer(
    lunar, out, lunar_sandbox, monkeypatch
):
    write, room = os.write, 3_000

    def write_while_there_is_room(file, line):
        nonlocal room
        if len(line) < 80:  # somebody else's
            return write(file, line)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, line[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write_while_there_is_room)
    with pytest.raises(OSError, match=str(out)):
        run(rows_of(60), out, client=lunar, concurrency=4)
    monkeypatch.undo()
    whole = out.read_bytes().count(b"\n")
    assert 0 < whole < 60
    result = run(rows_of(60), out, client=lunar)
    assert (result.skipped, result.answered) == (whole, 60)
    assert sorted(line["id"] for line in lines_of(out)) == list(range(60))


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_two_batches_do_not_write_one_file_at_once(lunar, out, lunar_sandbox):
    refusals = []

    def start_another(_result):
        with pytest.raises(ConfigurationError, match="out: another batch is writing") as refusal:
            run(rows_of(2), out, client=lunar)
        refusals.append(refusal)

    assert run(rows_of(2), out, client=lunar, on_answer=start_another).answered == 2
    assert (len(refusals), len(lunar_sandbox.requests())) == (2, 2)
    assert run(rows_of(2), out, client=lunar).skipped == 2


def test_a_budget_ends_the_batch_and_what_was_not_sent_is_counted(lunar, out, lunar_sandbox):
    budget = Budget(calls=10)
    result = run(rows_of(25), out, client=lunar, budget=budget, concurrency=4)
    assert (result.answered, result.failed, result.unsent) == (10, 0, 15)
    assert "budget" in result.refusal
    assert len(lunar_sandbox.requests()) == 10


def test_a_row_whose_price_nobody_knows_fails_by_itself_and_ends_no_batch(
    lunar, out, lunar_sandbox
):
    prices = Prices.of([Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6)])
    rows = [{"id": "x", "prompt": "Hi", "model": "gpt-4o"}, *rows_of(5, max_tokens=20)]
    budget = Budget(usd="5", reserve="worst", prices=prices)
    result = run(rows, out, client=lunar, budget=budget, concurrency=2)
    assert (result.answered, result.failed, result.unsent, result.refusal) == (5, 1, 0, None)
    (failed,) = [line for line in lines_of(out) if "error" in line]
    assert failed["id"] == "x"
    assert "no price is known of gpt-4o" in failed["error"]
    assert len(lunar_sandbox.requests()) == 5
    assert run(rows, out, client=lunar).answered == 6


def test_what_another_observer_refuses_ends_the_batch(lunar, out):
    class Refusing:
        def before(self, call):
            raise BudgetExceededError("no more")

        def after(self, outcome):
            raise AssertionError("nothing was sent")

    with observing(Refusing()):
        result = run(rows_of(3), out, client=lunar)
    assert (result.unsent, result.failed, result.refusal) == (3, 0, "no more")


def test_calls_under_way_may_give_back_what_they_hold(lunar, out):
    """Each call holds a tenth of the budget and takes far less: all are answered, if one waits for the others."""
    budget = Budget(usd="0.01", reserve="0.001")
    result = run(rows_of(60), out, client=lunar, budget=budget, concurrency=30)
    assert (result.answered, result.refusal) == (60, None)


def test_a_ledger_has_every_call(lunar, out):
    ledger = Ledger()
    result = run(rows_of(5), out, client=lunar, ledger=ledger)
    assert (ledger.total.calls, ledger.total_cost) == (5, result.cost)


async def test_it_runs_where_an_event_loop_runs_already(lunar_sandbox, out, monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    assert run(rows_of(3), out).answered == 3
    with pytest.raises(RowError):
        run([{"id": 1}], out)
    await asyncio.sleep(0)


IN_A_NOTEBOOK = """
import asyncio, sys
from lunar_core.batch import run

async def cell():
    slowly = {"x-sandbox-fault": "slow=0.05"}
    rows = [{"id": number, "prompt": "Say hello", "extra_headers": slowly} for number in range(200)]
    run(rows, sys.argv[1], model="gpt-4o-mini", concurrency=2)

try:
    asyncio.new_event_loop().run_until_complete(cell())  # asyncio.run() would take the signal for itself
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.read()  # as a notebook, which lives on after a cell was interrupted
"""


def test_an_interrupt_ends_a_batch_within_an_event_loop(lunar_sandbox, out, monkeypatch):
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", IN_A_NOTEBOOK, out], **pipes) as notebook:
        lunar_sandbox.billed(at_least=4)
        notebook.send_signal(signal.SIGINT)
        assert notebook.stdout.readline() == "interrupted\n"
        asked = len(lunar_sandbox.requests())
        time.sleep(0.3)
        assert len(lunar_sandbox.requests()) == asked < 200
        notebook.stdin.close()


def test_where_one_answer_cannot_be_taken_no_more_are_paid_for(lunar, out, lunar_sandbox):
    def fail(result):
        if result.answered == 1:
            raise ZeroDivisionError

    rows = rows_of(40, extra_headers={"x-sandbox-fault": "slow=0.05"})
    with pytest.raises(ZeroDivisionError):
        run(rows, out, client=lunar, concurrency=4, on_answer=fail)
    assert len(lunar_sandbox.requests()) <= 8


def test_a_second_answer_to_a_row_as_of_a_worker_that_seemed_dead_is_ignored(out):
    with open_batch(rows_of(1), out, model="gpt-4o", max_tokens=None, on_answer=None) as batch:
        for text in ("first", "second"):
            batch.take({"id": 0, "text": text, "model": "gpt-4o", "cost_usd": 0.1, "usage": None})
    assert (batch.result.answered, batch.result.cost) == (1, Decimal("0.1"))
    assert [line["text"] for line in lines_of(out)] == ["first"]


def test_somebody_may_watch(lunar, out):
    counts = []
    run(rows_of(4), out, client=lunar, on_answer=lambda result: counts.append(result.answered))
    assert counts == [1, 2, 3, 4]


PROGRAM = """
import sys
from lunar_core.batch import run
run(sys.argv[1], sys.argv[2], concurrency=4)
"""


def test_a_killed_batch_asks_at_most_the_calls_in_flight_again(lunar_sandbox, out, tmp_path):
    path = tmp_path / "in.jsonl"
    rows = rows_of(60, extra_headers={"x-sandbox-fault": "slow=0.05"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    environment = {
        **os.environ,
        "LUNAR_API_KEY": lunar_sandbox.api_key,
        "LUNAR_BASE_URL": lunar_sandbox.url,
    }
    command = [sys.executable, "-c", PROGRAM, str(path), str(out)]
    with subprocess.Popen(command, env=environment) as process:
        while not out.exists() or out.read_bytes().count(b"\n") < 10:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    written = out.read_bytes().count(b"\n")
    assert written < 60
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert sorted(line["id"] for line in lines_of(out)) == list(range(60))
    assert len(lunar_sandbox.requests()) <= 60 + 4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("concurrency", {"concurrency": 0}),
        ("budget", {"budget": 5}),
        ("ledger", {"ledger": "costs.db"}),
        ("client", {"client": Lunar("pk_test_1234")}),
        ("rows", {"rows": 5}),
        ("on_answer", {"on_answer": "print"}),
        ("out", {"out": None}),
        ("scheduler", {"scheduler": "127.0.0.1:8786"}),
    ],
)
def test_what_cannot_work_is_refused_by_name(name, settings, out):
    with pytest.raises(ConfigurationError, match=rf"^{name}: "):
        run(**{"rows": rows_of(1), "out": out} | settings)
