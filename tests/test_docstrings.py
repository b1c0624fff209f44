"""The examples in docstrings run: each docstring's, in a folder of its own, against the sandbox.

A reader of an example knows where it stands: the public names of the packages are there without an import.
"""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import lunar_core
from lunar_core import LunarError

ROOT = Path(__file__).parents[1]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")

READERS_OWN = {
    "langchain_lunar.budget.LunarBudgetMiddleware": "an agent of the reader's",
    "langchain_lunar.callbacks.get_lunar_cost": "a chain of the reader's",
    "langchain_lunar.evaluate": "a chain and a data set of the reader's",
    "langchain_lunar.router.chain.LunarRouterChain.decide": "prompts of the reader's",
    "langchain_lunar.router.middleware.LunarRoutingMiddleware": "an agent of the reader's",
    "llama_index_lunar.callbacks.LunarCostHandler": "a query engine of the reader's",
    "langchain_lunar.progress.lunar_progress": "a chain of the reader's",
    "llama_index_lunar.callbacks.lunar_cost": "a query engine of the reader's",
    "llama_index_lunar.progress.lunar_progress": "nodes of the reader's",
    "llama_index_lunar.callbacks.LunarCostCallback": "the framework's own names",
    "llama_index_lunar.usage_event.LunarUsageEvent": "the framework's own names",
    "lunar_core.cost.ledger.Ledger.open": "messages of the reader's",
    "lunar_core.cost.report.Report": "a ledger of the reader's",
    "lunar_core.evaluate": "prints a table of what the reader's models decide",
    "lunar_core.evaluate.answers.compare_answers": "a report of the reader's",
}
"""Docstrings whose examples stand on what only the reader has, and what that is. They are compiled."""


def examples():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts).removesuffix(".__init__")
                for example in doctest.DocTestFinder().find(importlib.import_module(name)):
                    example.examples = [
                        e for e in example.examples if doctest.SKIP not in e.options
                    ]
                    if example.examples:
                        yield example


EXAMPLES = {example.name: example for example in examples()}


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_sentences_without_sections_or_roles(package):
    """Parameters, results and errors are told in sentences, everywhere alike."""
    other_style = re.compile(
        r"^ +(?:Args|Attributes|Examples?|Raises|Returns|Yields):$|:\w+:`", re.MULTILINE
    )
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py")}
    assert {str(path) for path, text in texts.items() if other_style.search(text)} == set()


def public_names(of_package):
    names = {}
    for package in dict.fromkeys(["lunar_core", of_package]):
        module = importlib.import_module(package)
        names |= {name: getattr(module, name) for name in module.__all__}
    return names


def test_every_public_name_of_the_core_has_an_example():
    """Errors are met as their base shows it, and what is no class or function is what it is."""
    for name in lunar_core.__all__:
        value = getattr(lunar_core, name)
        base = LunarError if isinstance(value, type) and issubclass(value, LunarError) else value
        if callable(base):
            assert f"{base.__module__}.{base.__name__}" in EXAMPLES, name


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - READERS_OWN.keys()))
@pytest.mark.usefixtures("lunar_sandbox_env")
@pytest.mark.filterwarnings("ignore:temprature:UserWarning")  # An example shows that warning.
def test_an_example_does_what_it_shows(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[name]
    example.globs = {**public_names(name.partition(".")[0]), **example.globs}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    shown = doctest.DocTestRunner(optionflags=flags).run(example)
    assert (shown.attempted, shown.failed) == (len(example.examples), 0)


@pytest.mark.parametrize("name", sorted(READERS_OWN))
def test_an_example_of_the_readers_own_is_python(name):
    for step in EXAMPLES[name].examples:
        compile(step.source, name, "single")
