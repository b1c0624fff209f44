"""The shape of the house: who may import whom, what is public, how long a file may grow."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.api import read_configuration
from importlinter.application.use_cases import lint_imports

import lunar_core
from lunar_core import errors

ROOT = Path(__file__).parents[1]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LONGEST_FILE = 420
"""Lines. Past about 400 a file is asked which two things it is."""

LONGER_FILES = {
    "llama_index_lunar/llm.py": "one class: LunarLLM with its fields, its constructor and its eight endpoints",
}
"""Files that may be longer, each with the one thing that it is."""

FRIENDS = {
    "langchain_lunar/callbacks.py: self._outer._settle": "another handler of the same class",
    "langchain_lunar/compat.py: handler._run_span_mapping[str(run_id)].span": "a tracer's, which has no other way",
    "langchain_lunar/llms.py: self._with(kwargs)._stream_params": "a copy of the model itself",
    "lunar_core/client/aio_stream.py: self._stream._next": "a stream's iterator is part of it",
    "lunar_core/client/aio_stream.py: self._stream._over": "the same",
    "lunar_core/client/sync_stream.py: self._stream._next": "the same",
    "lunar_core/client/sync_stream.py: self._stream._over": "the same",
}
"""Where something reaches through two objects' private names, or through another object's, and why."""

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"{{name}} is not installed, for this test", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code: str) -> str:
    """What a new interpreter prints for `code`, started where no folder shadows an import."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_point_down(capsys: pytest.CaptureFixture[str]) -> None:
    kept = lint_imports(str(ROOT / "pyproject.toml"), cache_dir=None, no_logo=True)
    assert kept, capsys.readouterr().out


def test_every_room_of_the_core_has_its_place_in_the_layers() -> None:
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    placed = {name for layer in layers for name in re.findall(r"lunar_core\.(\w+)", layer)}
    rooms = {path.stem for path in (ROOT / "lunar_core").iterdir() if path.suffix in {"", ".py"}}
    assert rooms - placed - {"__init__", "__main__", "__pycache__", "sandbox"} == set()


@pytest.mark.parametrize(
    ("package", "blocked"),
    [
        ("langchain_lunar", {"llama_index"}),
        ("llama_index_lunar", {"langchain", "langchain_core", "langgraph", "langsmith"}),
        ("lunar_core", {"llama_index", "langchain", "langchain_core", "langgraph"}),
    ],
)
def test_each_package_works_without_the_other_framework(package: str, blocked: set[str]) -> None:
    code = BLOCKER.format(blocked=blocked) + (
        f"import {package} as package\n"
        "for name in getattr(package, '__all__', ()):\n"
        "    getattr(package, name)\n"
        "print('imported')"
    )
    assert run(code) == "imported\n"


def test_importing_the_core_loads_no_framework_and_no_network() -> None:
    heavy = {"httpx", "httpx2", "langchain_core", "llama_index", "ssl", "starlette", "uvicorn"}
    heavy |= {"genai_prices", "psycopg", "sqlalchemy", "sqlite3", "jinja2", "rich", "typer"}
    code = f"import sys, lunar_core; print(*sorted({heavy} & set(sys.modules)))"
    assert run(code).split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_sorted_and_all_there(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert list(names) == sorted(set(names), key=lambda name: (not name.isupper(), name))
    assert all(hasattr(module, name) for name in names)
    assert set(names) <= set(dir(module))
    own = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "").partition(".")[0] == package and name[0] != "_"
    }
    assert own <= set(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    public = {f"{package}.{name}": getattr(module, name) for name in module.__all__}
    methods = {
        f"{path}.{name}": method
        for path, value in public.items()
        if inspect.isclass(value)
        for name, method in vars(value).items()
        if name[0] != "_" and inspect.isfunction(method)
    }
    documentable = {
        path: value
        for path, value in {**public, **methods}.items()
        if inspect.isclass(value) or inspect.isroutine(value)
    }
    undocumented = [
        path
        for path, value in documentable.items()
        if not (value.__doc__ if inspect.isclass(value) else inspect.getdoc(value))
    ]
    assert undocumented == []


def test_every_error_can_be_imported_from_the_core() -> None:
    names = {name for name, value in vars(errors).items() if is_error(value)}
    assert names <= set(lunar_core.__all__)


def is_error(value: object) -> bool:
    """Whether this is one of our own exceptions."""
    return isinstance(value, type) and issubclass(value, errors.LunarError)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_grows_too_long(path: Path) -> None:
    is_long = len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    assert is_long == (path.relative_to(ROOT).as_posix() in LONGER_FILES)


def is_private(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) is not None


def reaches(path: Path) -> Iterator[str]:
    """Each ``other._a.b`` and each ``self._a._b`` of a file: what only a private name leads to."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        way = node.value
        while isinstance(way, (ast.Subscript, ast.Call)):
            way = way.value if isinstance(way, ast.Subscript) else way.func
        if not is_private(way):
            continue
        is_own = ast.unparse(way.value) in {"self", "cls", "super()"}
        if is_private(node) or not is_own:
            yield ast.unparse(node)


def test_nothing_reaches_through_two_objects_privates() -> None:
    places = {
        f"{path.relative_to(ROOT).as_posix()}: {text}" for path in SOURCES for text in reaches(path)
    }
    assert places == FRIENDS.keys()


def test_each_suppression_says_why() -> None:
    """``# noqa: RULE  # why``: by its rule alone nobody can tell whether it still holds."""
    mark = re.compile(r"# (?:noqa|type: ignore|pyright: ignore)(?!(?::? ?\[?[\w, -]+\]?)  # \w)")
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if mark.search(line)
    ]
    assert lines == []


def test_no_file_tells_where_it_was_written() -> None:
    """Paths of one machine help nobody else, and leak."""
    machine = re.compile(r"/(?:root|home/\w+|Users/\w+|work/(?:main|shared)|opt/pypi)/")
    texts = {path: path.read_text(encoding="utf-8") for path in written_files()}
    assert [str(path) for path, text in texts.items() if machine.search(text)] == []


def test_requirements_name_no_host() -> None:
    files = sorted((ROOT / "requirements").iterdir())
    assert files
    assert [path.name for path in files if "://" in path.read_text(encoding="utf-8")] == []


def written_files() -> list[Path]:
    """The project's text files: all but what tools and builds leave behind."""
    folders = (*PACKAGES, ".ci", ".github", "examples", "requirements", "scripts", "tests")
    below = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    texts = {"", ".cfg", ".json", ".md", ".py", ".toml", ".txt", ".typed", ".yaml", ".yml"}
    return [
        path
        for path in (*ROOT.iterdir(), *below)
        if path.is_file()
        and path.suffix in texts
        and "__pycache__" not in path.parts
        and path.name != ".git"  # A file, in a work tree of git's.
    ]
