"""Each how-to of docs/ runs on both dialects, and prints what its page shows."""

from __future__ import annotations

import pytest

from tests.docs.conftest import ROOT

HOWTOS = {path.stem: path for path in sorted((ROOT / "docs/howto").glob("*.py"))}
ELSEWHERE = {"tenants": "tests/ecosystem/test_howtos.py"}
"""Those that need what `make test` does not install, and where they are run."""


@pytest.mark.parametrize("name", [name for name in HOWTOS if name not in ELSEWHERE])
def test_a_howto_prints_what_its_page_shows(name, lunar_sandbox, run_python):
    shown = HOWTOS[name].with_suffix(".txt").read_text(encoding="utf-8")
    assert run_python(HOWTOS[name], sandbox=lunar_sandbox) == shown


@pytest.mark.parametrize("name", [name for name in HOWTOS if name not in ELSEWHERE])
def test_a_howto_runs_on_the_backend_as_it_was_observed(name, lunar_sandbox_factory, run_python):
    assert run_python(HOWTOS[name], sandbox=lunar_sandbox_factory(dialect="observed")).strip()


def test_there_are_twelve_and_each_has_its_page():
    assert len(HOWTOS) == 12
    for path in HOWTOS.values():
        page = path.with_suffix(".md").read_text(encoding="utf-8")
        assert f'--8<-- "howto/{path.name}"' in page
        assert f'--8<-- "howto/{path.stem}.txt"' in page
