"""Answers in the form that a prompt shows, if it asks for JSON in words.

A JSON schema is filled. Else the form is the JSON below the heading that the prompt ends with
(``<Output>``), where it stood before, or the last JSON of a prompt that asks for JSON. It is filled
as its schema would be: but ``CAPITALS`` stay, so do numbers whose name the prompt does not have,
and a key of JSON above the form becomes one of the last JSON. What stands below ``Example
response:`` is the answer as it is.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from lunar_core.sandbox.prompt import LONGEST, words
from lunar_core.sandbox.requests import Schema
from lunar_core.sandbox.values import fill

_ASKS = re.compile(
    r"(?i)\b(output|return|respond|answer|reply|write|give)\w*\b[^.\n]{0,80}\bJSON\b"
)
_HEADING = re.compile(r"\n(<[\w ]+>|[\w ]+:)\s*\Z")
_EXAMPLE = re.compile(r"(?ims)^example (?:response|answer|output):\s*\n(.+?)(?:\n\s*\n|\Z)")
_KINDS = {"int": "integer", "float": "number", "bool": "boolean", "NoneType": "null"}
_DECODER = json.JSONDecoder()
_MOST_TRIES = 1_000


class Shown(NamedTuple):
    """JSON found in a text: an object, or a list of objects."""

    start: int
    value: Any


def answer_in_form(text: str, prompt: str) -> str | None:
    """Answer in the form that a message shows, with the prompt's words; None if it shows none."""
    shown = list(_json_in(text[: 5 * LONGEST]))
    form = _find_form(text, shown)
    if form is None:
        example = _EXAMPLE.search(text)
        return example[1].strip() if example else None
    question = re.sub(r"(?s)[{\[].*[}\]]|\bJSON\b", "", prompt)
    if heading := _HEADING.search(prompt):
        question = prompt[: heading.start()].strip().rpartition("\n")[2]
    objects = [other for other in shown if isinstance(other.value, dict)]
    names = {name for other in objects if other.start < form.start for name in other.value}
    options, question_words = list(objects[-1].value) if objects else [], set(words(question))

    def as_schema(value: Any, name: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            parts = {name: as_schema(part, name) for name, part in value.items()}
            return {"type": "object", "properties": parts, "required": list(parts)}
        if isinstance(value, list):
            return {"items": as_schema(value[0]) if value else {}, "maxItems": len(value[:1])}
        if isinstance(value, str):
            is_const = re.fullmatch(r"[A-Z][A-Z0-9_]+", value)
            return {"enum": options} if value in names else {"const": value} if is_const else {}
        is_named = question_words & set(words(name))
        return {"type": _KINDS[type(value).__name__]} if is_named else {"const": value}

    schema = form.value if _is_schema(form.value) else as_schema(form.value)
    return json.dumps(fill(schema, question), ensure_ascii=False)


def _find_form(text: str, shown: Sequence[Shown]) -> Shown | None:
    if schemas := [other for other in shown if _is_schema(other.value)]:
        return schemas[-1]
    if heading := _HEADING.search(text):
        before = text.rfind(heading[0].rstrip(), 0, heading.start())
        if before >= 0:
            return next((other for other in shown if other.start > before), None)
    return shown[-1] if shown and _ASKS.search(text) else None


def _json_in(text: str) -> Iterator[Shown]:
    end = 0
    for _ in range(_MOST_TRIES):
        if (bracket := re.compile(r"[{\[]").search(text, end)) is None:
            return
        end = bracket.end()
        with contextlib.suppress(ValueError, RecursionError):
            value, end = _decode(text, bracket.start())
            if value and isinstance(value if isinstance(value, dict) else value[0], dict):
                yield Shown(bracket.start(), value)


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Decode JSON; also as it is shown to people, without quotes and with three dots."""
    try:
        return _DECODER.raw_decode(text, start)
    except ValueError:
        block = text[start : start + 2_000]
        if block.startswith("{{"):  # A template's braces.
            block = block.replace("{{", "{").replace("}}", "}")
        block = re.sub(r"([{,]\s*)(\w+)\s*:", r'\1"\2":', re.sub(r",?\s*\.\.\.", "", block))
        value, length = _DECODER.raw_decode(block)
        return value, start + length


def _is_schema(value: Any) -> bool:
    try:
        return "properties" in value and bool(Schema.model_validate(value))
    except ValidationError:
        return False
