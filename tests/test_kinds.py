"""Each test that tests/KINDS.md names is there, and each kind names one."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def read_rows():
    """Of each row: its kind, and the tests that it names, as (file, name)."""
    rows, folder = [], TESTS
    for line in (TESTS / "KINDS.md").read_text(encoding="utf-8").splitlines():
        section = re.match(r"## .*\(`tests/(\w+)/`\)", line)
        folder = TESTS / section.group(1) if section else folder
        if line.startswith("| ") and not line.startswith(("| kind |", "| --- |")):
            kind, _siblings, named = line.strip("| ").split(" | ")
            rows.append((f"{folder.name}: {kind}", read_tests(folder, named)))
    return rows


def read_tests(folder, named):
    tests = []
    for part in named.split("; "):
        file, _, names = part.partition(": ")
        file = file.strip("`")
        path = TESTS.parent / file if file.startswith("tests/") else folder / file
        tests += [(path, name) for name in re.findall(r"`(\w+)`", names)]
    return tests


@lru_cache
def find_tests(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}


ROWS = read_rows()


@pytest.mark.parametrize(("kind", "tests"), ROWS, ids=[kind for kind, _ in ROWS])
def test_the_tests_of_a_kind_are_there(kind, tests):
    assert tests
    assert [name for path, name in tests if name not in find_tests(path)] == []


def test_no_kind_is_named_twice():
    kinds = [kind for kind, _ in ROWS]
    assert len(kinds) == len(set(kinds)) > 50
