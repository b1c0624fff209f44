"""Every python block of the README runs as it is printed, against a sandbox."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_runs(number, lunar_sandbox):
    environment = {"LUNAR_API_KEY": lunar_sandbox.api_key, "LUNAR_BASE_URL": lunar_sandbox.url}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert "None" not in done.stdout
    assert lunar_sandbox.requests()
