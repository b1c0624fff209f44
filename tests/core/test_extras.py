"""An optional part that is missing is told of with commands that work: in a checkout first, which always does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lunar_core.extras import install_command

ROOT = Path(__file__).parents[2]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}
EXTRAS = re.search(
    r"^\[project\.optional-dependencies\]\n(.*?)^\[",
    (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)[1]


def test_the_command_for_a_checkout_comes_first_as_the_project_is_on_no_index_yet():
    told = install_command("sql")
    assert told.startswith("pip install '.[sql]' in a checkout")
    assert "from an index that has it: pip install 'lunar-integrations[sql]'" in told


def test_every_extra_that_is_advised_is_one():
    advised = {
        extra
        for text in SOURCES.values()
        for extra in re.findall(r"install_command\(['\"]([\w-]+)['\"]\)", text)
    }
    assert len(advised) >= 8
    assert advised - set(re.findall(r"^([\w-]+) = ", EXTRAS, re.MULTILINE)) == set()


@pytest.mark.parametrize("name", SOURCES)
def test_no_advice_is_for_an_index_alone(name):
    text = SOURCES[name]
    # The sandbox shares no code with the rest, so it writes both out.
    assert ("'lunar-integrations[" in text) == ("]' in a checkout" in text)
