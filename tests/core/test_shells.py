"""The sync client is the async one without its awaits: what is mended in one is mended in both.

Both are written by hand. This test takes the awaits away and compares, so neither can drift.
"""

import ast
import itertools
import re
from pathlib import Path

import pytest

import lunar_core.client

ROOM = Path(lunar_core.client.__file__).parent

# Everything in which the two may differ, as (in the async one, in the sync one).
WITHOUT_AWAIT = (
    (r"    close = aclose\n\n", ""),  # another name for what the sync one has under that name
    (r"\basync (?=def|for|with)", ""),
    (r"\bawait ", ""),
    (r"\bStopAsync(?=Iteration)", "Stop"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(?=(iter|next|enter|exit)__)", "__"),
    (r"\ba(?=(begin|close)\b|next\()", ""),
    (r"\baio_", "sync_"),
    (r"\bAwaitable\[Any\]", "Any"),
    (r"\bAwaitable, ", ""),
    (r"\bclose_soon\b", "close_now"),
)


def without_await(source):
    for pattern, replacement in WITHOUT_AWAIT:
        source = re.sub(pattern, replacement, source)
    return source


def halves(source):
    """The imports, sorted (a sorter orders each file for itself), and all lines after them.

    Docstrings of the module and its classes are left out: each speaks to its own readers.
    """
    module = ast.parse(source)
    imports = [node for node in module.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in imports:
        node.names.sort(key=lambda alias: alias.name)
    lines = dict(enumerate(source.splitlines(), 1))
    for holder in [module, *(node for node in module.body if isinstance(node, ast.ClassDef))]:
        if ast.get_docstring(holder) is not None:
            for number in range(holder.body[0].lineno, holder.body[0].end_lineno + 1):
                del lines[number]
    last = imports[-1].end_lineno
    return sorted(map(ast.unparse, imports)), [text for n, text in lines.items() if n > last]


def first_difference(ours, theirs):
    """The first line that differs, as (number, ours, theirs), or None."""
    pairs = itertools.zip_longest(ours, theirs)
    return next(((n, a, b) for n, (a, b) in enumerate(pairs, 1) if a != b), None)


TWINS = [
    ("aio.py", "sync.py"),
    ("aio_resources.py", "sync_resources.py"),
    ("aio_stream.py", "sync_stream.py"),
]


@pytest.mark.parametrize(("asynchronous", "sync"), TWINS)
def test_the_sync_client_is_the_async_one_without_its_awaits(asynchronous, sync):
    ours = halves(without_await((ROOM / asynchronous).read_text(encoding="utf-8")))
    theirs = halves((ROOM / sync).read_text(encoding="utf-8"))
    assert first_difference(ours[0], theirs[0]) is None
    assert first_difference(ours[1], theirs[1]) is None


def test_there_are_awaits_to_take_away():
    source = "".join((ROOM / name).read_text(encoding="utf-8") for name, _ in TWINS)
    assert len(re.findall(r"\bawait\b", source)) > 20
    assert "await " not in without_await(source)


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b", "d"], ["a", "c", "d"], (2, "b", "c")),
        (["a"], ["a", "b"], (2, None, "b")),
        (["a", "b"], ["a"], (2, "b", None)),
    ],
)
def test_one_line_that_differs_or_is_missing_is_found(ours, theirs, difference):
    assert first_difference(ours, theirs) == difference
