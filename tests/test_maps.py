"""The pages that say where things are say it truly: ARCHITECTURE.md, and the list of promises."""

from __future__ import annotations

import ast
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import langchain_lunar
import llama_index_lunar
from lunar_core import AsyncLunar, Lunar

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PROMISES = ROOT / "tests" / "core" / "promises"
WHERE = ARCHITECTURE.partition("### Where is …?")[2].partition("Inside a store:")[0]
PLACES = re.findall(r"`([\w/]+\.py)`: `(\w+)`", WHERE)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_what_is_looked_for_is_where_the_table_says(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {getattr(node, "name", None) for node in tree.body}


def test_the_table_answers_what_a_newcomer_asks():
    assert len(PLACES) >= WHERE.count("\n| a ")


@pytest.mark.parametrize("package", ["langchain_lunar", "llama_index_lunar"])
def test_each_file_of_a_frameworks_package_is_on_the_map(package):
    table = ARCHITECTURE.partition(f"Inside `{package}/`:\n\n")[2].partition("\n\n")[0]
    files = {path.name for path in (ROOT / package).rglob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"`(\w+\.py)`", table))


def test_each_room_of_the_core_is_on_the_map():
    core = ROOT / "lunar_core"
    rooms = {
        f"{folder.relative_to(ROOT)}/" for folder in core.rglob("*") if any(folder.glob("*.py"))
    }
    files = {f"lunar_core/{path.name}" for path in core.glob("*.py")}
    on_the_map = set(re.findall(r"`(lunar_core/[\w/.]+)`", ARCHITECTURE))
    assert rooms | files - {"lunar_core/__init__.py", "lunar_core/version.py"} <= on_the_map


ROWS = re.findall(r"^\| `(lunar_core/[\w/]+/)` \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
LISTED = ["wire", "cost", "cost/budget", "cost/report", "cost/store", "evaluate"]
"""Rooms whose row names their files. The others say what they are for."""


@pytest.mark.parametrize("room", [f"lunar_core/{room}/" for room in LISTED])
def test_a_row_that_names_the_files_of_a_room_names_all_of_them(room):
    files = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    assert files - set(re.findall(r"`(\w+)`", dict(ROWS)[room])) == set()


SURFACE = ARCHITECTURE.partition("## The public surface")[2].partition("## Decisions")[0]


def test_the_page_shows_what_the_clients_are_made_with():
    signature = SURFACE.partition("```python\n")[2].partition("  # AsyncLunar: the same")[0]
    shown = ast.parse(f"def {signature}: ...").body[0]
    parameters = [
        (parameter.arg, ast.unparse(default))
        for parameter, default in zip(
            [*shown.args.args, *shown.args.kwonlyargs],
            [*shown.args.defaults, *shown.args.kw_defaults],
            strict=True,
        )
    ]
    for client in (Lunar, AsyncLunar):
        taken = inspect.signature(client).parameters.values()
        assert parameters == [(parameter.name, repr(parameter.default)) for parameter in taken]


def test_the_page_names_all_that_a_frameworks_package_exports():
    for package in (langchain_lunar, llama_index_lunar):
        named = re.findall(r"`(\w+)(?:\(\))?`", SURFACE)
        assert set(package.__all__) - set(named) == set(), package


def test_the_page_of_promises_has_those_that_tests_name():
    tests = {
        (int(number), path.name)
        for path in PROMISES.glob("test_*.py")
        for number in re.findall(r"def test_(\d+)_", path.read_text(encoding="utf-8"))
    }
    page = (PROMISES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", page, re.MULTILINE)
    on_the_page = {
        (int(no), file) for no, files in rows for file in re.findall(r"`(\w+\.py)`", files)
    }
    assert on_the_page == tests


def test_the_import_picture_has_no_circle():
    graph = grimp.build_graph(
        "lunar_core",
        "langchain_lunar",
        "llama_index_lunar",
        cache_dir=None,
    )
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()  # Raises CycleError, which names the circle.
