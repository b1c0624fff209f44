"""Programs that run beside one other tool each, in a process of their own: such tools change the process they are in.

They need the environment that `make test-ecosystem` sets up.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["lunar_core.sandbox.pytest_plugin"]

PROGRAMS = Path(__file__).parent / "programs"
ROOT = PROGRAMS.parents[2]


@pytest.fixture
def run_program(lunar_sandbox):
    """Run a program of `programs/` against the sandbox: `(name, *words)` to the JSON that it printed last."""

    def run(name, *words, command=(sys.executable,), **environment):
        done = subprocess.run(
            [*command, str(PROGRAMS / f"{name}.py"), *words],
            env={
                **os.environ,
                "LUNAR_API_KEY": lunar_sandbox.api_key,
                "MLFLOW_LOGGING_LEVEL": "ERROR",
                "LUNAR_BASE_URL": lunar_sandbox.url,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout.splitlines()[-1])

    return run
