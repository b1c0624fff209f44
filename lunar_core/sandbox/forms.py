"""The form that a prompt shows for its answer, where it asks for one in words.

The rule, for the texts of the conversation, the last one first:

1. A JSON schema with ``properties`` is filled (:mod:`lunar_core.sandbox.schema`).
2. A last line that is a heading (``<Output>``, ``Answer:``) and stood in the prompt before: the
   JSON that stood under it then is the form.
3. Else, where the prompt asks for JSON, the last JSON that it shows is the form. Keys without
   quotes, ``...`` and comments are read as people mean them.
4. ``Example response:`` on a line of its own: the paragraph below it is the answer.

A form is filled like a schema: its objects have the same fields, its lists one item, its texts and
numbers come from the prompt; ``a|b`` is a choice, ``CAPITALS`` stay as they are. A text that is a
key of other JSON above the form becomes a key of the last other JSON in the prompt.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from lunar_core.sandbox.prompt import PromptValues
from lunar_core.sandbox.requests import Schema
from lunar_core.sandbox.schema import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 100_000
"""Characters of a text that are looked at."""
_ASKS_FOR_JSON = re.compile(
    r"\b(?:output|return|respond\w*|answer|reply|write|give|produce)\b[^.\n]{0,80}\bJSON\b",
    re.IGNORECASE,
)
_HEADING = re.compile(r"<[\w ]{1,40}>|[\w ]{1,40}:")
_EXAMPLE = re.compile(
    r"^Example (?:response|answer|output):[ \t]*\n(.+?)(?:\n[ \t]*\n|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_KINDS = {
    "string": "string", "str": "string", "text": "string", "integer": "integer", "int": "integer",
    "number": "number", "float": "number", "boolean": "boolean", "bool": "boolean",
}  # fmt: skip


class Shown(NamedTuple):
    """JSON that stands in a text."""

    start: int
    end: int
    value: Any


def answer_in_form(text: str, prompt: str) -> str | None:
    """Answer in the form that a text shows; None where it shows none.

    Args:
        text: one message, searched for a form.
        prompt: the last user message, whose values fill the form.
    """
    text = text[:_LONGEST]
    shown = list(_json_in(text))
    schemas = [json_value.value for json_value in shown if _is_schema(json_value.value)]
    form = None if schemas else _form(text, shown)
    if schemas:
        schema = schemas[-1]
    elif form:
        rest = [other for other in shown if other is not form]
        keys = {key for other in rest if other.start < form.start for key in _keys(other)}
        schema = _as_schema(form.value, keys, _keys(rest[-1]) if rest else [])
    else:
        example = _EXAMPLE.search(text)
        return example[1].strip() if example else None
    question = PromptValues(_question(prompt[:_LONGEST]))
    return json.dumps(fill(schema, question), ensure_ascii=False)


def _form(text: str, shown: list[Shown]) -> Shown | None:
    heading = _last_heading(text)
    if heading and (before := text.rstrip().removesuffix(heading).rfind(f"\n{heading}\n")) != -1:
        return next((json_value for json_value in shown if json_value.start > before), None)
    return shown[-1] if shown and _ASKS_FOR_JSON.search(text) else None


def _question(prompt: str) -> str:
    """Return what is asked: the line above a closing heading, else the prompt without its JSON."""
    if heading := _last_heading(prompt):
        lines = prompt.strip().removesuffix(heading).strip().splitlines()
        return lines[-1] if lines else ""
    for json_value in reversed(list(_json_in(prompt))):
        prompt = prompt[: json_value.start] + prompt[json_value.end :]
    return re.sub(r"\bJSON\b", "json", prompt)  # In capitals it would be a name.


def _last_heading(text: str) -> str | None:
    last = text.strip().rpartition("\n")[2].strip()
    return last if _HEADING.fullmatch(last) else None


def _as_schema(form: Any, keys: set[str], names: list[str]) -> dict[str, Any]:
    """Write the schema of values like this one."""
    if isinstance(form, dict):
        parts = {name: _as_schema(value, keys, names) for name, value in form.items()}
        return {"type": "object", "properties": parts, "required": list(parts)}
    if isinstance(form, list):
        items = _as_schema(form[0], keys, names) if form else {}
        return {"type": "array", "items": items, "minItems": min(len(form), 1), "maxItems": 1}
    if isinstance(form, str):
        return _text_schema(form, names if form in keys else [])
    return (
        {"const": None} if form is None else {"type": _KINDS[type(form).__name__], "default": form}
    )


def _text_schema(text: str, names: list[str]) -> dict[str, Any]:
    if names or "|" in text:
        return {"enum": names or [option.strip() for option in text.split("|")]}
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", text):
        return {"const": text}
    return {"type": _KINDS.get(text, "string")}


def _json_in(text: str) -> Iterator[Shown]:
    """Find the JSON objects, and lists of them, that stand in a text."""
    decoder, end = json.JSONDecoder(), 0
    for match in re.finditer(r"[{\[]", text):
        start = match.start()
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            block = _block(text, start)
            try:
                value = json.loads(_mended(block))
            except ValueError:
                continue
            end = start + len(block)
        if value and (isinstance(value, dict) or isinstance(value[0], dict)):
            yield Shown(start, end, value)


def _block(text: str, start: int) -> str:
    """Return the text from a bracket to the one that closes it."""
    depth = 0
    for match in re.finditer(r"[{\[\]}]", text[start:]):
        depth += 1 if match[0] in "{[" else -1
        if depth == 0:
            return text[start : start + match.end()]
    return ""


def _mended(block: str) -> str:
    """Write JSON as it is shown to people, or with a template's doubled braces, as JSON."""
    if block.startswith("{{"):
        return block.replace("{{", "{").replace("}}", "}")
    block = re.sub(r"\s+(?:\\\\?|//|#)\s.*", ",", block)
    block = re.sub(r"([{,]\s*)(\w+)\s*:", r'\1"\2":', block)
    block = re.sub(r":\s*(?!true\b|false\b|null\b)([A-Za-z_][\w|]*)(?=\s*[,}])", r': "\1"', block)
    block = re.sub(r",?\s*\.\.\.\s*(?=[\]}])", "", block)
    return re.sub(r",(?:\s*,)*\s*(?=[\]}])", "", re.sub(r",(?:\s*,)+", ",", block))


def _keys(shown: Shown) -> list[str]:
    return list(shown.value) if isinstance(shown.value, dict) else []


def _is_schema(value: Any) -> bool:
    if not (isinstance(value, dict) and "properties" in value):
        return False
    try:
        Schema.model_validate(value)
    except ValidationError:
        return False
    return True
