"""Each how-to of docs/ runs on both dialects, and prints what its page shows."""

from __future__ import annotations

import re

import pytest

from tests.docs.conftest import ROOT

HOWTOS = {path.stem: path for path in sorted((ROOT / "docs/howto").glob("*.py"))}
ELSEWHERE = {"tenants": "tests/ecosystem/test_howtos.py"}
"""Those that need what `make test` does not install, and where they are run."""


def blocks_of(name, language):
    """The blocks of a how-to's page in one language; the first is the program, or what it prints."""
    page = HOWTOS[name].with_suffix(".md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [name for name in HOWTOS if name not in ELSEWHERE])
def test_a_howto_prints_what_its_page_shows(name, lunar_sandbox, run_python):
    assert run_python(HOWTOS[name], sandbox=lunar_sandbox) == blocks_of(name, "text")[0]


@pytest.mark.parametrize("name", [name for name in HOWTOS if name not in ELSEWHERE])
def test_a_howto_runs_on_the_backend_as_it_was_observed(name, lunar_sandbox_factory, run_python):
    assert run_python(HOWTOS[name], sandbox=lunar_sandbox_factory(dialect="observed")).strip()


@pytest.mark.parametrize("name", HOWTOS)
def test_a_page_shows_the_whole_program_so_that_it_reads_anywhere(name):
    assert blocks_of(name, "python")[0] == HOWTOS[name].read_text(encoding="utf-8")


INSTALLED_BY = {
    "fastapi": "fastapi",
    "langchain": "agents",
    "langchain_core": "agents",
    "langgraph": "agents",
    "langchain_lunar": "langchain",
    "llama_index": "llama-index",
    "llama_index_lunar": "llama-index",
    "lunar_core": "sandbox",
    "opentelemetry": "opentelemetry-sdk",
}
"""What a page has to name for what its program imports. `agents` brings LangChain's core along."""


@pytest.mark.parametrize("name", HOWTOS)
def test_a_page_says_what_to_install_before_its_program(name):
    page = HOWTOS[name].with_suffix(".md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^To run it: `pip install (.*?)` in a checkout\.", page, re.MULTILINE)
    installed = set(re.split(r"[^\w-]+", line))
    if "agents" in installed:
        installed.add("langchain")
    program = HOWTOS[name].read_text(encoding="utf-8")
    packages = set(re.findall(r"^(?:from|import) (\w+)", program, re.MULTILINE))
    needed = {word for package, word in INSTALLED_BY.items() if package in packages}
    needed |= {"sql"} if "Ledger.open(" in program else set()
    needed |= {"report"} if ".to_html(" in program else set()
    assert needed
    assert needed <= installed


def test_each_page_begins_with_the_question_that_the_index_has_for_it():
    index = (ROOT / "docs/howto/index.md").read_text(encoding="utf-8")
    questions = dict(re.findall(r"^\| (.*?) \| \[.*?\]\((.*?)\) \|$", index, re.MULTILINE))
    assert len(questions) == 12
    for question, name in questions.items():
        page = (ROOT / "docs/howto" / name).read_text(encoding="utf-8")
        assert page.split("\n\n")[1] == f"*{question}*"


def test_there_are_twelve():
    assert len(HOWTOS) == 12
