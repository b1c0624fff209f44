"""Strings that must have a form: JSON schema's ``format`` and ``pattern``."""

from __future__ import annotations

import re
from typing import Any

try:  # They moved in Python 3.11.
    from re import _compiler, _parser  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    import sre_compile as _compiler  # type: ignore[no-redef, unused-ignore]
    import sre_parse as _parser  # type: ignore[no-redef, unused-ignore]

# Format → (a pattern of all of it, what stands in where the prompt has none).
FORMATS: dict[str, tuple[str, str]] = {
    "date": (r"\d{4}-\d{2}-\d{2}", "2025-01-01"),
    "time": (r"\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})?", "12:00:00Z"),
    "date-time": (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})", "2025-01-01T12:00:00Z"),
    "duration": (r"P(?=\w)[0-9YMWDTHS.]+", "PT1H"),
    "email": (r"[\w.+-]+@[\w-]+\.[\w.-]*\w", "someone@example.com"),
    "hostname": (r"(?:[a-z0-9-]+\.)+[a-z]{2,}", "example.com"),
    "ipv4": (r"(?:\d{1,3}\.){3}\d{1,3}", "127.0.0.1"),
    "ipv6": (r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}", "2001:db8:0:0:0:0:0:1"),
    "uri": (r"https?://\S*[\w/]", "https://example.com/"),
    "url": (r"https?://\S*[\w/]", "https://example.com/"),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "00000000-0000-4000-8000-000000000000"),
}  # fmt: skip
_CHARACTERS = tuple(map(chr, (*b"a0 -_.A", *range(0x10000))))
"""Characters to try, the usual ones first."""


def shortest(pattern: str) -> str | None:
    """Write the shortest text that a pattern finds; None for what only JavaScript understands."""
    try:
        text = _write(_parser.parse(pattern))
        return text if re.search(pattern, text) else None
    except re.error:
        return None


def _write(parsed: Any) -> str:
    """Write each step of a pattern; anchors, assertions and references take no room."""
    return "".join(_step(parsed, str(step[0]), step) for step in parsed)


def _step(parsed: Any, operation: str, step: Any) -> str:
    argument = step[1]
    if operation.endswith("REPEAT"):
        return _write(argument[2]) * int(argument[0])
    if operation == "SUBPATTERN":
        return _write(argument[-1])
    if operation == "BRANCH":
        return _write(argument[1][0])
    if operation in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
        single = _compiler.compile(_parser.SubPattern(parsed.state, [step]))
        first = (chr(argument),) if operation == "LITERAL" else ()
        return next(filter(single.match, (*first, *_CHARACTERS)), "")
    return ""
