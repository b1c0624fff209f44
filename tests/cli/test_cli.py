"""The `lunar-llm` command, on the sandbox: answers on stdout, all about them on stderr, and exit codes."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lunar_core import __version__
from tests.faults import FaultServer
from tests.faults_steps import completion, reply


class Terminal(io.StringIO):
    def isatty(self):
        return True


# Answers


def test_route_says_who_would_be_chosen_and_why(lunar, lunar_sandbox):
    asked = ("--candidate", "gpt-4o", "--candidate", "gpt-4o-mini", "--cost-weight", "80")
    code, out, err = lunar("route", "Prove it", *asked)
    assert (code, out) == (0, "gpt-4o-mini\n")
    assert "expected error: 0.6" in err
    assert "cost_weight 80" in err
    (record,) = lunar_sandbox.requests()
    assert json.loads(record["body"]) == {
        "messages": [{"role": "user", "content": "Prove it"}],
        "execute": False,
        "models": ["gpt-4o", "gpt-4o-mini"],
        "cost_weight": 80.0,
    }


def test_chat_shows_the_words_and_what_they_cost(lunar, lunar_sandbox):
    code, out, err = lunar("chat", "Say hello to you", "--model", "gpt-4o-mini")
    (bill,) = lunar_sandbox.billed()
    tokens = bill["prompt_tokens"] + bill["completion_tokens"]
    assert (code, out) == (0, "hello to you\n")
    assert err.startswith(f"gpt-4o-mini · {tokens} tokens · ${bill['total_cost_usd']:.8f} · ")
    assert json.loads(lunar_sandbox.requests()[0]["body"])["stream"] is True


def test_chat_is_routed_unless_a_model_is_named(lunar, lunar_sandbox):
    lunar("chat", "Hi", "--system", "Be brief.", "--max-tokens", "9", "--temperature", "0.5")
    decided, streamed = lunar_sandbox.requests()
    assert (decided["path"], streamed["path"]) == ("/v1/router", "/v1/chat/completions")
    body = json.loads(streamed["body"])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (9, 0.5, True)


def test_words_come_as_they_are_generated(lunar_sandbox):
    asked = ["chat", "Count to 40", "--model", "gpt-4o!hang-mid", "--base-url", lunar_sandbox.url]
    with subprocess.Popen(
        [sys.executable, "-m", "lunar_core.cli", *asked],
        env=os.environ | {"LUNAR_API_KEY": lunar_sandbox.api_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(4) == b"1 2 "  # and no more comes: the rest is held back
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


def test_a_warning_is_one_line_without_a_place_in_the_code(lunar_sandbox, tmp_path):
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"id": 1, "prompt": "Hi", "temprature": 1}\n', encoding="utf-8")
    command = ["batch", str(rows), "--out", str(tmp_path / "out.jsonl")]
    done = subprocess.run(
        [sys.executable, "-m", "lunar_core.cli", *command, "--base-url", lunar_sandbox.url],
        env=os.environ | {"LUNAR_API_KEY": lunar_sandbox.api_key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    warning, summary = done.stderr.splitlines()
    assert warning.startswith("Warning: temprature: ")
    assert summary.startswith("1 of 1 answered")


def test_a_cost_that_is_not_stated_is_estimated_by_the_services_own_prices(
    lunar, lunar_sandbox_factory
):
    observed = lunar_sandbox_factory(dialect="observed")
    _code, _out, err = lunar("chat", "Hi", "--base-url", observed.url)
    assert re.search(r" · cost not stated, about \$0\.0\d+ by the prices of the service · ", err)
    # A stream whose route is told in no chunk is decided first.
    assert err.endswith(" · 1 decision, 1 answer\n")


def test_a_cost_that_nobody_can_estimate_is_said_to_be_unknown(lunar):
    with FaultServer() as server:
        server.decide(
            lambda request: (
                reply(json={"choices": [{"message": {"content": "Yes."}, "index": 0}]})
                if request.method == "POST"
                else reply(404, json={"detail": "Not Found"})
            )
        )
        _code, _out, err = lunar("chat", "Hi", "-m", "house-model", "--base-url", server.origin)
    assert "cost unknown: the service stated none, and no price of this model is known" in err


def test_a_prompt_may_come_from_stdin(lunar, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Say hello to stdin"))
    assert lunar("chat", "-")[1] == "hello to stdin\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["models"], lambda value: value[0]["id"] == "gpt-4o"),
        (["route", "Prove it"], lambda value: value["selected_model"] == "gpt-4-turbo"),
        (["chat", "Say hi"], lambda value: value["choices"][0]["message"]["content"] == "hi"),
        (["chat", "Say hi"], lambda value: value["usage"]["total_cost_usd"] > 0),
        (["chat", "Say hi"], lambda value: value["routing"]["selected_model"]),
    ],
)
def test_json_is_one_value_on_stdout_and_nothing_else(arguments, shown, lunar):
    code, out, err = lunar(*arguments, "--json")
    assert (code, err) == (0, "")
    assert shown(json.loads(out))


def test_a_terminal_is_not_sent_sequences_that_steer_it(lunar, monkeypatch):
    hostile = "Say \x1b]0;owned\x07red \x1b[31mtext\x9b2J"
    assert "\x1b" in lunar("chat", hostile)[1]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    lunar("chat", hostile)
    assert terminal.getvalue() == "]0;ownedred [31mtext2J\n"


@pytest.mark.parametrize(
    "answer",
    [
        reply(json=completion(model="\x1b[31mred")),
        reply(400, json={"detail": "\x1b[31mred"}),
    ],
    ids=["facts", "an error"],
)
def test_nor_is_it_by_what_stands_beside_an_answer(answer, lunar):
    with FaultServer() as server:
        server.always(answer)
        err = lunar("chat", "hi", "-m", "gpt-4o", "--base-url", server.origin)[2]
    assert "[31mred" in err
    assert "\x1b" not in err


def test_version_and_help(lunar):
    assert lunar("--version")[:2] == (0, f"{__version__}\n")
    code, out, _err = lunar("--help")
    assert code == 0
    assert all(word in out for word in ("models", "route", "chat", "sandbox", "LUNAR_API_KEY"))


def test_the_sandboxs_options_are_shown_under_the_commands_name(lunar):
    code, out, _err = lunar("sandbox", "--help")
    assert code == 0
    assert out.startswith("usage: lunar-llm sandbox [-h] [--port PORT]")


# Errors


def test_what_the_service_refuses_is_one_line_on_stderr(lunar, lunar_sandbox):
    code, out, err = lunar("chat", "Hi", "--model", "nope")
    assert (code, out) == (1, "")
    assert err == (
        "Error: 404: All providers failed for model 'nope': Model not found "
        f"(asked: POST {lunar_sandbox.url}/v1/chat/completions)\n"
    )


def test_words_that_came_before_an_error_are_shown(lunar):
    code, out, err = lunar("chat", "Say one two three four", "--model", "gpt-4o!error-mid")
    assert (code, out) == (1, "one two \n")
    assert err.startswith("Error: ")


@pytest.mark.parametrize("wrong", [["--temperature", "3"], ["--candidate", "gpt-4o"]])
def test_what_cannot_work_is_refused_before_anything_is_sent(wrong, lunar, lunar_sandbox):
    code, out, err = lunar("chat", "Hi", *wrong)
    assert (code, out) == (2, "")
    assert err.startswith(("Error: temperature: ", "Error: --candidate: "))
    assert lunar_sandbox.requests() == []


@pytest.mark.parametrize(
    "wrong", [["route"], ["chat", "Hi", "--nope"], ["chatt"], ["route", "a", "b"]]
)
def test_so_is_a_command_that_is_none(wrong, lunar):
    code, out, err = lunar(*wrong)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_an_error_is_json_where_json_was_asked_for(lunar):
    code, out, err = lunar("chat", "Hi", "--model", "nope", "--json")
    error = json.loads(err)["error"]
    assert (code, out) == (1, "")
    assert (error["type"], error["status_code"]) == ("NotFoundError", 404)
    assert error["request_id"].startswith("req_")


def test_without_a_key_it_says_where_one_comes_from(lunar, monkeypatch):
    monkeypatch.delenv("LUNAR_API_KEY")
    code, _out, err = lunar("models")
    assert code == 2
    assert "LUNAR_API_KEY" in err
    assert "python -m lunar_core.sandbox" in err


def test_no_option_takes_a_key(lunar):
    for command in ("models", "route", "chat", "costs", "batch", "route-report"):
        options = lunar(command, "--help")[1].lower()
        assert "--help" in options
        assert not any(name in options for name in ("--api-key", "--key", "--jwt", "--token"))


def test_a_service_that_cannot_be_reached_is_an_error_of_one_line(lunar):
    code, _out, err = lunar("models", "--base-url", "http://127.0.0.1:1")
    assert code == 1
    assert re.match(r"Error: .*no connection to 127\.0\.0\.1:.*is the sandbox running\?", err)
    assert err.count("\n") == 1


def test_what_cannot_be_written_is_an_error_of_one_line(lunar, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    code, _out, err = lunar("chat", "Say hi")
    assert (str(code), err) == (f"Error: [Errno {errno.ENOSPC}] No space left on device", "")


def test_a_closed_stdout_is_none(lunar, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    code, _out, err = lunar("chat", "Say hi")
    assert code == 0
    assert "tokens" in err


# As a program

BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from lunar_core.cli import main
main()
"""


def test_ctrl_c_while_it_is_loading_ends_it_with_130(lunar, monkeypatch):
    def load(_finder, name, *_):
        if name == "lunar_core.cli.commands":
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "lunar_core.cli.commands")
    monkeypatch.setattr(sys, "meta_path", [type("Interrupted", (), {"find_spec": load})()])
    assert lunar("models") == (130, "", "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_named_without_a_traceback(missing):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(missing=missing)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"The lunar-llm command needs {missing}: pip install '.[cli]' in a checkout "
        "(from an index that has it: pip install 'lunar-integrations[cli]')\n"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lunar-llm comp", ["compare"]),
        ("lunar-llm chat -m gpt-4o", ["gpt-4o", "gpt-4o-mini"]),
        ("lunar-llm batch -m gpt-4o", ["gpt-4o", "gpt-4o-mini"]),
        ("lunar-llm costs --baseline gpt-4o", ["gpt-4o", "gpt-4o-mini"]),
        ("lunar-llm route-report --baseline gpt-4o", ["gpt-4o", "gpt-4o-mini"]),
    ],
)
def test_a_shell_completes_commands_and_models_without_asking_anybody(line, words):
    done = subprocess.run(
        [sys.executable, "-m", "lunar_core.cli"],
        env={"_LUNAR_LLM_COMPLETE": "complete_bash", "COMP_WORDS": line}
        | {"COMP_CWORD": str(len(line.split()) - 1)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == words


def test_a_shell_is_told_how_to(lunar):
    code, out, _err = lunar("--help")
    assert (code, "--install-completion" in out) == (0, True)


def test_the_command_leaves_the_name_of_the_vendors_own_alone():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'lunar-llm = "lunar_core.cli:main"' in project.splitlines()
    assert not re.search("^lunar *=", project, re.MULTILINE)


def test_sandbox_serves_the_api_until_it_is_interrupted():
    with subprocess.Popen(
        [sys.executable, "-m", "lunar_core", "sandbox", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        alarm = threading.Timer(30, process.kill)
        alarm.start()
        facts = json.loads(process.stdout.readline())
        done = subprocess.run(
            [sys.executable, "-m", "lunar_core.cli", "chat", "Say hi", "--base-url", facts["url"]],
            env=os.environ | {"LUNAR_API_KEY": "pk_test"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
        alarm.cancel()
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert (process.returncode, err) == (130, "")
