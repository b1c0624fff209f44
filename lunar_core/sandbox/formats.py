"""Strings that must have a form: JSON schema's ``format`` and ``pattern``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:  # The parser moved in Python 3.11.
    from re import _parser as sre  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    import sre_parse as sre  # type: ignore[no-redef, unused-ignore]


if TYPE_CHECKING:
    from lunar_core.sandbox.prompt import PromptValues

# Format → (how it looks in a prompt, what stands in where the prompt has none).
_FORMATS: dict[str, tuple[str, str]] = {
    "date": (r"\b\d{4}-\d{2}-\d{2}\b", "2025-01-01"),
    "time": (r"\b\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})?", "12:00:00Z"),
    "date-time": (
        r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})",
        "2025-01-01T12:00:00Z",
    ),
    "duration": (r"\bP(?=\w)[0-9YMWDTHS.]+\b", "PT1H"),
    "email": (r"[\w.+-]+@[\w-]+\.[\w.-]*\w", "someone@example.com"),
    "hostname": (r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b", "example.com"),
    "ipv4": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "127.0.0.1"),
    "ipv6": (r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}", "2001:db8:0:0:0:0:0:1"),
    "uri": (r"\bhttps?://[^\s'\"<>)]*[\w/]", "https://example.com/"),
    "uuid": (
        r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
        "00000000-0000-4000-8000-000000000000",
    ),
}
_FORMATS["url"] = _FORMATS["uri"]


def formatted(name: str, hints: PromptValues) -> str | None:
    """Return the prompt's text of a format, or a fixed example; None: no such format."""
    if name not in _FORMATS:
        return None
    pattern, example = _FORMATS[name]
    return hints.match(pattern) or example


def patterned(pattern: str, hints: PromptValues) -> str | None:
    """Return the prompt's first text that a pattern finds, else the shortest that it allows.

    None for what only JavaScript takes for a pattern.
    """
    anchors = re.compile(r"^\^|(?<!\\)\$$")
    try:
        return hints.match(anchors.sub("", pattern)) or _shortest(sre.parse(pattern))
    except re.error:
        return None


def _shortest(parsed: Any) -> str:
    return "".join(_one(str(operation), argument) for operation, argument in parsed)


def _one(operation: str, argument: Any) -> str:
    """Write the shortest text of one step of a pattern; anchors and assertions take no room."""
    write = _WRITERS.get(operation)
    return write(argument) if write else ""


def _repeated(argument: Any) -> str:
    least, _, repeated = argument
    return _shortest(repeated) * int(least)


_ANY_ORDER = (*b"a0 -_.A", *range(0x10000))
"""Characters to try, the usual ones first."""
_EXAMPLES = {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}


def _member(members: Any) -> str:
    """Pick a character of a set."""
    pairs = [(str(operation), argument) for operation, argument in members]
    if pairs[0][0] == "NEGATE":
        taken = re.compile("|".join(_class(*pair) for pair in pairs[1:]))
        return next(c for c in map(chr, _ANY_ORDER) if not taken.match(c))
    operation, argument = pairs[0]
    if operation == "CATEGORY":
        return _EXAMPLES.get(str(argument), "-")
    return chr(argument if operation == "LITERAL" else argument[0])


def _class(operation: str, argument: Any) -> str:
    if operation == "LITERAL":
        return re.escape(chr(argument))
    if operation == "RANGE":
        return f"[{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}]"
    shorthand = {"DIGIT": r"\d", "WORD": r"\w", "SPACE": r"\s"}
    name = str(argument).replace("CATEGORY_", "")
    return shorthand.get(name, shorthand.get(name.replace("NOT_", ""), ".").upper())


_WRITERS: dict[str, Callable[[Any], str]] = {
    "LITERAL": chr,
    "NOT_LITERAL": lambda code: "b" if code == ord("a") else "a",
    "ANY": lambda _: "a",
    "IN": _member,
    "MAX_REPEAT": _repeated,
    "MIN_REPEAT": _repeated,
    "POSSESSIVE_REPEAT": _repeated,
    "SUBPATTERN": lambda argument: _shortest(argument[-1]),
    "BRANCH": lambda argument: _shortest(argument[1][0]),
}
