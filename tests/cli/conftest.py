"""The command, run here on the sandbox or as a program on a terminal."""

import os
import re
import select
import subprocess
import sys
import time

import pytest

from lunar_core.cli import main


@pytest.fixture
def lunar(lunar_sandbox, monkeypatch, capsys):
    """Run the command; (exit code, stdout, stderr)."""
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    monkeypatch.delenv("LUNAR_LEDGER", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lunar-llm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    return run


class TerminalSession:
    """The command as a person has it: both ends of a terminal, and what was shown on it."""

    def __init__(self, arguments, environment):
        self._end, inner = os.openpty()
        # The first of a session that opens a terminal has it for its own: Ctrl-C reaches it.
        opened = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(inner)]
        self.process = subprocess.Popen(
            [*opened, sys.executable, "-m", "lunar_core.cli", *arguments],
            env=os.environ | {"TERM": "dumb", "COLUMNS": "100", "LINES": "40"} | environment,
            start_new_session=True,
        )
        os.close(inner)
        self._seen = ""

    def type(self, text):
        os.write(self._end, text.encode())

    def wait_for(self, pattern, seconds=30):
        """What was shown up to the end of the next text that matches."""
        ends = time.monotonic() + seconds
        while not (match := re.search(pattern, self._seen, re.DOTALL)):
            assert time.monotonic() < ends, f"{pattern!r} was never shown: {self._seen!r}"
            self._read(0.2)
        shown, self._seen = self._seen[: match.end()], self._seen[match.end() :]
        return shown

    def end(self, seconds=30):
        """The exit code, and what was shown until then."""
        ends = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < ends, f"it does not end: {self._seen!r}"
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode, self._seen

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._end)

    def _read(self, seconds):
        if select.select([self._end], [], [], seconds)[0]:
            try:
                self._seen += os.read(self._end, 65536).decode().replace("\r\n", "\n")
            except OSError:  # the other end was closed
                time.sleep(0.05)


@pytest.fixture
def on_a_terminal(lunar_sandbox):
    """Start the command on a terminal of its own, on the sandbox."""
    if not hasattr(os, "openpty"):
        pytest.skip("Windows has no pseudo-terminals")
    sessions = []

    def start(*arguments, **environment):
        own = {"LUNAR_API_KEY": lunar_sandbox.api_key, "LUNAR_BASE_URL": lunar_sandbox.url}
        sessions.append(TerminalSession(arguments, own | environment))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
