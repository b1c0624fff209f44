"""The how-to of docs/ that needs FastAPI."""

import os
import re
import subprocess
import sys

import pytest

from tests.ecosystem.conftest import ROOT

HOWTO = ROOT / "docs/howto/tenants.py"


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_a_service_books_its_calls_on_tenants_and_refuses_in_http(dialect, lunar_sandbox_factory):
    sandbox = lunar_sandbox_factory(dialect=dialect)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::lunar_core.LunarCostWarning", str(HOWTO)],
        env={
            **os.environ,
            "LUNAR_API_KEY": sandbox.api_key,
            "LUNAR_BASE_URL": sandbox.url,
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    warned = re.sub(r".*Warning: .*\n(  .*\n)?", "", done.stderr)
    assert (done.returncode, warned) == (0, "")
    page = HOWTO.with_suffix(".md").read_text(encoding="utf-8")
    assert f"\n```text\n{done.stdout}```\n" in page
