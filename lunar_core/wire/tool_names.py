"""Makes names of tools and schemas fit for the API, and finds the original names again. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LONGEST = 64
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")


def fit_name(name: str) -> str:
    """``name`` in the form that providers accept: letters, digits, ``_`` and ``-``, at most 64.

    >>> fit_name("Box[int]"), fit_name("files.read")
    ('Box_int_', 'files_read')
    """
    return _UNFIT.sub("_", name)[:LONGEST] or "_"


def fit_names(names: Iterable[str]) -> dict[str, str]:
    """The name to send for each of ``names``. All are different; a name that fits is kept.

    >>> fit_names(["a.b", "a_b"])
    {'a.b': 'a_b_2', 'a_b': 'a_b'}
    """
    listed = list(dict.fromkeys(names))
    sent = {name: name for name in listed if fit_name(name) == name}
    for name in listed:
        if name not in sent:
            taken = set(sent.values())
            sent[name] = next(choice for choice in _choices(fit_name(name)) if choice not in taken)
    return {name: sent[name] for name in listed}


def _choices(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        ending = f"_{number}"
        yield name[: LONGEST - len(ending)] + ending
        number += 1
