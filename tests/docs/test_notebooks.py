"""The notebooks of docs/ run on a kernel of Jupyter's, and print what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.docs.conftest import ROOT

pytest.importorskip("nbclient", reason="runs with the packages of requirements/dev.txt")


def test_the_notebooks_print_what_they_show():
    done = subprocess.run(
        [sys.executable, "scripts/docs_outputs.py", "--check", "notebooks"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        },  # debugpy's word on Python itself
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    # Noise of the kernel's: its own warnings, and what libzmq may print when the kernel is ended.
    noise = r"^(\[IPKernelApp\] WARNING .*|Assertion failed: .*\(src/signaler\.cpp:\d+\))\n"
    errors = re.sub(noise, "", done.stderr, flags=re.MULTILINE)
    assert (done.returncode, done.stdout, errors) == (0, "", "")
