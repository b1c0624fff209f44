"""The reference of docs/ has every public name of the packages."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.docs.conftest import ROOT

PAGES = (ROOT / "docs/reference").glob("*.md")
NAMES = [
    name
    for page in PAGES
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]


def find(path):
    """What a dotted name stands for."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    "module",
    [
        "lunar_core",
        "lunar_core.batch",
        "lunar_core.evaluate",
        "langchain_lunar",
        "langchain_lunar.evaluate",
        "llama_index_lunar",
    ],
)
def test_every_public_name_is_there(module):
    shown = [find(name) for name in NAMES]
    public = {name: find(f"{module}.{name}") for name in importlib.import_module(module).__all__}
    missing = [name for name, value in public.items() if not any(value is item for item in shown)]
    assert [name for name in missing if name != "__version__"] == []


def test_no_name_is_there_twice():
    assert sorted(NAMES) == sorted(set(NAMES))
