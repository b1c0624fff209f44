"""Every python block of the README runs as it is printed, against a sandbox; the tests in it pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# (\w+\.py)\n", re.MULTILINE)
PROGRAMS = [block for block in FENCED if not FILE.match(block)]
(PROJECT,) = [block for block in FENCED if FILE.match(block)]


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs(number, dialect, lunar_sandbox_factory, tmp_path):
    sandbox = lunar_sandbox_factory(dialect=dialect)
    environment = {"LUNAR_API_KEY": sandbox.api_key, "LUNAR_BASE_URL": sandbox.url}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[number]],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # The backend states no cost in streams: that may be warned of there, and shown as None.
    warning = r".*LunarCostWarning: .*\n(  .*\n)?" if dialect == "observed" else ""
    assert (done.returncode, re.sub(warning, "", done.stderr)) == (0, "")
    assert done.stdout.strip()
    assert "None" not in done.stdout or dialect == "observed"
    assert sandbox.requests()


def test_the_project_of_the_readme_passes_its_tests(tmp_path):
    _, *files = FILE.split(PROJECT)
    for name, text in zip(files[::2], files[1::2], strict=True):
        tmp_path.joinpath(name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a reader has not all of ours
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 passed" in done.stdout
