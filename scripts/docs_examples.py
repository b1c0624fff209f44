"""For the reference of docs/: the examples in docstrings become blocks of code.

Markdown takes ``>>>`` for three quotations inside each other.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).+)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence around each example, as griffe reads the docstrings."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of ``obj``, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The same text with a fence around each example."""
    return _EXAMPLE.sub(
        lambda example: f"{example[1]}```pycon\n{example[0]}\n{example[1]}```", text
    )
