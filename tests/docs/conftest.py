"""What the documents show is run as their readers run it: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_python(tmp_path):
    """Run Python with some words against a sandbox; gives what it printed, and fails where it failed or complained."""

    def run(*words, sandbox=None, **environment):
        if sandbox is not None:
            environment |= {"LUNAR_API_KEY": sandbox.api_key, "LUNAR_BASE_URL": sandbox.url}
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUTF8": "1", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=110,
            check=False,
        )
        # The backend states no cost in streams: that may be warned of there, and is shown as None.
        is_observed = sandbox is not None and sandbox.dialect == "observed"
        warning = r".*LunarCostWarning: .*\n(  .*\n)?" if is_observed else ""
        assert (done.returncode, re.sub(warning, "", done.stderr)) == (0, "")
        return done.stdout

    return run
