"""Tools that mock or record httpx keep the request, and the key with it, at home."""

import os
import subprocess
import sys

import pytest

from tests.ecosystem.conftest import PROGRAMS, ROOT

MOCKS = sorted(path.stem for path in PROGRAMS.glob("mock_*.py"))


@pytest.mark.parametrize("program", MOCKS)
def test_a_mocked_call_is_never_sent(program, lunar_sandbox):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "answers",
            f"{PROGRAMS}/{program}.py",
        ],
        cwd=PROGRAMS,
        env={
            **os.environ,
            "SANDBOX_KEY": lunar_sandbox.api_key,
            "SANDBOX_URL": lunar_sandbox.url,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    # Those that were asked before the tool was switched on asked for a list.
    assert {request["path"] for request in lunar_sandbox.requests()} == {"/v1/models"}
