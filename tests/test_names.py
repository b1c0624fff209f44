"""Names say what a thing is, so that a stranger reads a line once.

A bare participle or adverb names a moment and no thing: `desk.asked(told)` makes a riddle of each line, though each of
them is fine by itself. Functions are verbs, values are nouns, booleans are claims; files are named for what they hold.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")
PROGRAMS = ("scripts", "examples", "docs", "tests/benchmarks", "tests/cassettes")
"""What is read beside the packages. Not the other tests, whose names live for a few lines beside what they name."""

NO_NAMES = {
    "asked": "`request` or `params` is what was asked, `requested_model` whom",
    "each": "the thing itself: `choice`, `chunk`, `entry`",
    "found": "what was found: `message`, `counts`, `fields`",
    "given": "`keywords`, `settings`, `arguments`: whoever gave them",
    "instead": "a verb says what is done in its place: `route_after(error)`",
    "known": "what is known: `metadata`, `facts`",
    "made": "what was made: `client`, `model`",
    "news": "what is new: `chunk`, `decision`",
    "of": "a verb says what comes of it: `route_of(decision)`, `find_model(name)`",
    "others": "which others: `fallbacks`, `candidates`",
    "said": "who says what: `text`, `chunk`, `stated`",
    "told": "what was told: `metadata`, `settings`",
    "wanted": "what is wanted: `names`, `options`",
}
"""Words that may not be a whole name, leading underscores aside, and what to write in their place."""

IRREGULAR = {
    "bound",
    "broken",
    "built",
    "chosen",
    "grown",
    "hidden",
    "kept",
    "left",
    "sent",
    "shown",
    "taken",
    "written",
}
"""Participles that do not end in -ed."""

VERBS = {"embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed"}
"""What ends so, and is none."""

PUBLIC_PARTICIPLES = {
    "lunar_core/cost/prices.py": {"bundled"},
    "lunar_core/cost/budget/budget.py": {"used"},
    "lunar_core/cost/budget/weight.py": {"used"},
    "lunar_core/sandbox/app.py": {"billed"},
    "lunar_core/sandbox/handle.py": {"billed"},
}
"""Functions that users have in their programs, such as ``Prices.bundled()``, and their likes inside."""

NO_FILES = {"deciding", "door", "hints", "late", "news", "refused"}
"""Moods and moments that files were named by."""

PUBLIC = {
    "lunar_core/cost/entries.py": {"of"},
    "lunar_core/cost/prices.py": {"of"},
    "lunar_core/cost/totals.py": {"of"},
    "lunar_core/errors.py": {"asked"},
}
"""Names that users have in their programs: `Totals.of(entries)`."""


def bound_names(source):
    """Every name that a file gives: to functions, classes, parameters, variables and attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def participle_functions(source):
    """The functions whose whole name is a participle. A property is a value, or a claim."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name, decorators = node.name.strip("_"), map(ast.unparse, node.decorator_list)
            is_participle = "_" not in name and (name.endswith("ed") or name in IRREGULAR)
            if is_participle and name not in VERBS and "property" not in decorators:
                yield name


def bare_words(source):
    return {name.strip("_").lower() for name in bound_names(source)} & NO_NAMES.keys()


ONE_NAME = {
    "Chunks": "the sync and the async twin",
    "LunarLLM": "public: each framework's text model",
}
"""Names that two classes may bear, and why."""

FILES = {
    str(path.relative_to(ROOT)): path
    for folder in (*PACKAGES, *PROGRAMS)
    for path in (ROOT / folder).rglob("*.py")
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_name_is_a_bare_participle(name):
    words = bare_words(FILES[name].read_text(encoding="utf-8")) - PUBLIC.get(name, set())
    assert words == set(), {word: NO_NAMES[word] for word in words}


@pytest.mark.parametrize("name", [name for name in sorted(FILES) if name.startswith(PACKAGES)])
def test_no_function_is_named_by_a_participle(name):
    """``merge(a, b)``, not ``merged(a, b)``: what a function is called by is what it does."""
    functions = set(participle_functions(FILES[name].read_text(encoding="utf-8")))
    assert functions == PUBLIC_PARTICIPLES.get(name, set())


def classes_by_name():
    """The files of each class at the top of a module, by its name without underscores.

    Not the sandbox's: it is the other side of the API, and has the API's names as the client has them.
    """
    classes = {}
    for name, path in FILES.items():
        if name.startswith(PACKAGES) and not name.startswith("lunar_core/sandbox/"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    classes.setdefault(node.name.lstrip("_"), []).append(name)
    return classes


def test_no_two_classes_have_one_name():
    shared = {name: files for name, files in classes_by_name().items() if len(files) > 1}
    assert shared.keys() == ONE_NAME.keys(), shared


def test_no_file_is_named_by_a_mood():
    assert {path.stem for path in FILES.values()} & NO_FILES == set()


def test_the_public_names_that_are_let_pass_are_there():
    sources = {name: FILES[name].read_text(encoding="utf-8") for name in PUBLIC}
    assert {name: bare_words(source) for name, source in sources.items()} == PUBLIC


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def _merged(a, b): ...", ["merged"]),
        ("class A:\n async def hidden(self): ...", ["hidden"]),
        ("class A:\n @property\n def failed(self): ...", []),
        ("def feed(): ...\ndef checked_count(): ...", []),
    ],
)
def test_a_participle_is_seen_where_a_function_has_its_name(source, names):
    assert list(participle_functions(source)) == names


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def _told(): ...", {"told"}),
        ("class Given: ...", {"given"}),
        ("for each in entries: ...", {"each"}),
        ("def f(*, found): ...", {"found"}),
        ("self._made = 1", {"made"}),
        ("metadata_of = given_keys = told.found", set()),
    ],
)
def test_a_bare_word_is_seen_wherever_it_is_bound(source, words):
    assert bare_words(source) == words
