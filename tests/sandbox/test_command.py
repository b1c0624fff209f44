"""``python -m lunar_core.sandbox``, as a shell, a parent process and a user meet it."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from lunar_core.sandbox import Sandbox, SandboxError, run
from lunar_core.sandbox.__main__ import main
from lunar_core.sandbox.engine import EngineError, running_engine
from tests.sandbox.raw import HELLO, chat, connect, request

COMMAND = [sys.executable, "-m", "lunar_core.sandbox", "--port", "0"]


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
def test_it_says_where_it_is_and_ends_cleanly(number: signal.Signals, code: int) -> None:
    # Under nohup a signal is ignored, and that is handed on to whatever is started.
    kept = signal.signal(number, signal.SIG_DFL)
    process = start()
    signal.signal(number, kept)
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"Lunar sandbox on (http://127\.0\.0\.1:\d+) ", line)
        assert match, line
        assert "development and tests" in line
        hint = process.stdout.readline()
        assert hint == f"export LUNAR_API_KEY=pk_any LUNAR_BASE_URL={match[1]}\n"
        with urllib.request.urlopen(f"{match[1]}/sandbox") as response:  # noqa: S310
            assert json.load(response)["sandbox"] is True
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (code, "", "")


def test_it_says_where_it_is_in_json() -> None:
    with start(
        "--json", "--dialect", "observed", "--until-stdin-closes", stdin=subprocess.PIPE
    ) as p:
        assert p.stdout is not None
        facts = json.loads(p.stdout.readline())
        _, errors = p.communicate(timeout=30)  # closes stdin
    assert facts == {
        "url": f"http://127.0.0.1:{facts['port']}",
        "port": facts["port"],
        "pid": p.pid,
        "dialect": "observed",
        "router": "table",
        "engine_version": None,
    }
    assert (p.returncode, errors) == (0, "")


def test_it_ends_in_the_middle_of_an_answer() -> None:
    body = {"model": "gpt-4o!hang-mid", "messages": HELLO, "stream": True}
    with run() as sandbox, connect(sandbox) as streaming, connect(sandbox) as waiting:
        streaming.sendall(request(sandbox, "POST", "/v1/chat/completions", body))
        assert streaming.recv(12) == b"HTTP/1.1 200"
        waiting.sendall(request(sandbox, "POST", "/v1/completions", {"model": "fault-hang"}))
        assert len(sandbox.requests(at_least=2)) == 2
        sandbox.process.terminate()
        assert sandbox.process.wait(30) == 0


def test_a_parents_death_ends_it() -> None:
    parent = (
        "import os, sys; from lunar_core.sandbox import run\n"
        "with run() as sandbox:\n"
        "    print(sandbox.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    # Both hold the pipe's other end: it closes when both are gone.
    output, _ = killed.communicate(timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert int(output) > 0


def test_a_busy_port_is_named(lunar_sandbox: Sandbox) -> None:
    taken = run(port=lunar_sandbox.port)
    with pytest.raises(
        SandboxError, match=f"Port {lunar_sandbox.port} .* --port 0 takes a free one"
    ):
        taken.__enter__()


@pytest.mark.skipif(sys.platform == "darwin", reason="there, 127.0.0.2 is no address of its own")
def test_it_listens_on_this_machine_only(lunar_sandbox: Sandbox) -> None:
    assert lunar_sandbox.url.startswith(f"http://127.0.0.1:{lunar_sandbox.port}/")
    with socket.socket() as neighbour:  # Fails where the port is taken on every address.
        neighbour.bind(("127.0.0.2", lunar_sandbox.port))


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from lunar_core.sandbox.__main__ import main; main(['--port', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert f"needs {missing}: pip install '.[sandbox]' in a checkout" in done.stderr


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match="opentracy: pip install --no-deps opentracy"):
        running_engine().__enter__()


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "65536", "65536 is no port: 0 to 65535"),
        ("--port", "-1", "-1 is no port"),
        ("--delay", "nan", "invalid seconds value: 'nan'"),
        ("--upstream", "127.0.0.1:11434", "does not begin with http:// or https://"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, reason: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([option, value])
    assert refused.value.code == 2
    assert reason in capsys.readouterr().err


def test_httpx_is_imported_for_an_upstream_only() -> None:
    script = (
        "import sys, lunar_core; before = set(sys.modules)\n"
        "import lunar_core.sandbox.app, lunar_core.sandbox.server, lunar_core.sandbox.engine\n"
        "assert 'httpx' not in set(sys.modules) - before"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_block_runs_it_and_a_kill_is_survived() -> None:
    with run(delay=0.5) as sandbox:
        assert isinstance(sandbox, Sandbox)
        assert sandbox.about()["delay"] == 0.5
        assert chat(sandbox).status == 200
        assert "process" not in repr(sandbox)
        sandbox.kill()
        assert sandbox.process.returncode == -signal.SIGKILL


def test_what_it_printed_is_in_the_error() -> None:
    wrong = run(dialect="spoken")  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match=r"(?s)exit code 2.*invalid choice: 'spoken'"):
        wrong.__enter__()
