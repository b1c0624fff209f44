"""Every python block of the README and of docs/ runs as it is printed, against a sandbox; the tests in them pass."""

from __future__ import annotations

import re

import pytest

from tests.docs.conftest import ROOT

FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# (\w+\.py)\n", re.MULTILINE)
PROGRAMS_OF_FILES = [
    path.read_text(encoding="utf-8") for path in (ROOT / "docs/howto").glob("*.py")
]
"""Run by test_howtos.py."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    f"{page.relative_to(ROOT).as_posix()}-{number}": block
    for page in PAGES
    for number, block in enumerate(FENCED.findall(page.read_text(encoding="utf-8")), 1)
    if block not in PROGRAMS_OF_FILES
}
PROJECTS = {name: block for name, block in BLOCKS.items() if FILE.match(block)}
PROGRAMS = {name: block for name, block in BLOCKS.items() if name not in PROJECTS}


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_a_page_runs(name, dialect, lunar_sandbox_factory, run_python):
    sandbox = lunar_sandbox_factory(dialect=dialect)
    printed = run_python("-c", PROGRAMS[name], sandbox=sandbox)
    assert printed.strip()
    assert "None" not in printed or dialect == "observed"
    assert sandbox.requests()


@pytest.mark.parametrize("name", PROJECTS)
def test_the_tests_of_a_page_pass(name, run_python, tmp_path):
    _, *files = FILE.split(PROJECTS[name])
    for file, text in zip(files[::2], files[1::2], strict=True):
        tmp_path.joinpath(file).write_text(text, encoding="utf-8")
    printed = run_python(
        *("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # a reader has not all of ours
    )
    assert re.search(r"^\d+ passed", printed, re.MULTILINE)


def test_a_page_reads_as_it_is_without_being_built():
    for page in PAGES:
        assert "--8<--" not in page.read_text(encoding="utf-8"), page


def test_the_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 90


LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")
LINKING = [
    page
    for page in [*ROOT.glob("*.md"), *PAGES[1:], ROOT / "examples/README.md"]
    if LINK.search(page.read_text(encoding="utf-8"))
]
"""The pages that link to files beside them. On the site, scripts/site_check.py looks."""

SHOWN = re.findall(
    r"^```python\n(.*?)^```\n\n```text\n(.*?)^```",
    PAGES[0].read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("number", range(2))
def test_the_readme_shows_what_its_programs_print(number, lunar_sandbox, run_python):
    program, shown = SHOWN[number]
    assert run_python("-c", program, sandbox=lunar_sandbox) == shown


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_to_files_of_a_checkout(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
