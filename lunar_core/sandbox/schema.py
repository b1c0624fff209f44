"""A value for a JSON schema: the first valid one, and the prompt's own words before any other.

The rule, for every field:

- A field that may be left out (not required, nullable, with a default) is, unless the prompt has
  a word of its name, or one of its enum's values.
- **const**, **enum**: the value that the prompt names, else the first. **boolean**: whether the
  prompt has a word of the name. **anyOf**, **oneOf**: the first branch that is not null.
- **number**: the prompt's next number that is valid; **string**: its next quoted words or name.
  Each is used once. **array**: as many items as the prompt offers, else one.
- Where the prompt offers nothing valid: 1, or the number next to it that is valid; an example of
  the format; the shortest text that the pattern allows; else the whole prompt, cut or filled up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from lunar_core.sandbox.formats import FORMATS, shortest
from lunar_core.sandbox.prompt import PromptValues

_DEEPEST = 8
"""Levels after which a recursive schema gets no more than it demands."""
_BOTTOM, _MOST = 50, 3_000
"""Levels and values after which a schema that demands itself gets nulls: it has no valid value."""


def fill(schema: Mapping[str, Any], prompt: str | PromptValues) -> Any:
    """Return a value that is valid against the schema and says what the prompt says.

    >>> city = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
    >>> fill(city, "Is it raining in Porto?")
    {'city': 'Porto'}
    """
    values = prompt if isinstance(prompt, PromptValues) else PromptValues(prompt)
    return _Filler(schema, values).value(schema, "", 0)


class _Filler:
    def __init__(self, root: Mapping[str, Any], values: PromptValues) -> None:
        self._root = root
        self._values = values
        self._left = _MOST

    def value(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if depth > _BOTTOM or self._left < 0:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return next(iter(self._values.named(schema["enum"])), schema["enum"][0])
        if "default" in schema and not self._is_mentioned(schema, name):
            return schema["default"]
        if branches := _branches(schema):
            solid = [branch for branch in branches if branch.get("type") != "null"]
            skips = len(solid) < len(branches) and not self._is_mentioned(schema, name)
            return None if skips or not solid else self.value(solid[0], name, depth + 1)
        return self._of_kind(_kind(schema), schema, name, depth)

    def _of_kind(self, kind: str, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "boolean":
            return self._values.mentions(name)
        return None if kind == "null" else self._leaf(kind, schema, name)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        return {
            name: self.value(properties.get(name, {}), name, depth + 1)
            for name in [*properties, *sorted(set(required) - set(properties))]
            if name in required
            or (depth < _DEEPEST and self._is_mentioned(self._resolve(properties[name]), name))
        }

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        items = self._resolve(schema.get("items"))
        array = [self.value(item, name, depth + 1) for item in schema.get("prefixItems", ())]
        if not array and schema.get("items") is not False and depth < _DEEPEST:
            array = self._all(items) or [self.value(items, name, depth + 1)]
        while len(array) < least:
            array.append(self.value(items, name, depth + 1))
        if schema.get("uniqueItems"):
            array = _distinct(array, least)
        return array[: int(min(most, len(array)))]

    def _all(self, items: Mapping[str, Any]) -> list[Any]:
        """Return everything that the prompt offers for such items."""
        if "enum" in items:
            return self._values.named(items["enum"])
        if _branches(items) or _kind(items) not in ("integer", "number", "string"):
            return []
        return list(iter(lambda: self._take(_kind(items), items), None))

    def _take(self, kind: str, schema: Mapping[str, Any]) -> Any:
        """Take from the prompt what is valid; None where it offers nothing more."""
        has_form = "format" in schema or "pattern" in schema
        return self._values.take(lambda v: _is_valid(kind, schema, v), any_word=has_form)

    def _leaf(self, kind: str, schema: Mapping[str, Any], name: str) -> Any:
        value = self._take(kind, schema)
        if value is not None:
            return value
        if kind in ("integer", "number"):
            return _bounded(1, schema, whole=kind == "integer")
        if "pattern" in schema and (example := shortest(schema["pattern"])) is not None:
            return example
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]][1]
        return _sized((self._values.text or name).rstrip(".?!") or "text", schema)

    def _is_mentioned(self, schema: Mapping[str, Any], name: str) -> bool:
        options = [value for part in (schema, *_branches(schema)) for value in part.get("enum", ())]
        return self._values.mentions(name) or bool(self._values.named(options))

    def _resolve(self, schema: Any, followed: int = 0) -> dict[str, Any]:
        """Follow ``$ref`` and merge ``allOf``; ``true`` is the schema that allows anything."""
        if not isinstance(schema, Mapping) or followed > 2 * _DEEPEST:
            return {}
        parts = [*schema.get("allOf", ()), self._target(schema.get("$ref"))]
        merged = {key: value for key, value in schema.items() if key not in ("allOf", "$ref")}
        for part in (self._resolve(part, followed + 1) for part in parts if part):
            properties = {**part.get("properties", {}), **merged.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "properties": properties, "required": required}
        return merged

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str):
            return None
        target: Any = self._root
        for step in reference.lstrip("#").strip("/").split("/"):
            if step and isinstance(target, Mapping):
                target = target.get(step.replace("~1", "/").replace("~0", "~"), {})
        return target


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("properties"):
        return "object"
    return str(schema.get("type", "array" if "items" in schema else "string"))


def _branches(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the alternatives of a schema; ``"type": ["string", "null"]`` is one, too."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _is_valid(kind: str, schema: Mapping[str, Any], value: Any) -> bool:
    if kind in ("integer", "number"):
        is_one = isinstance(value, int if kind == "integer" else (int, float))
        return is_one and value == _bounded(value, schema, whole=kind == "integer")
    if not isinstance(value, str) or _sized(value, schema) != value:
        return False
    if schema.get("format") in FORMATS and not re.fullmatch(FORMATS[schema["format"]][0], value):
        return False
    try:
        return re.search(schema.get("pattern", ""), value) is not None
    except re.error:  # What only JavaScript takes for a pattern is none.
        return True


def _bounded(value: float, schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """Return the valid number next to a value."""
    step = schema.get("multipleOf") or (1 if whole else None)
    nudge = step or 1e-6
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + nudge)
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - nudge)
    value = min(max(value, low), high)
    if step:  # The next multiple may lie just outside the bounds: then it is the one beside it.
        steps = round(value / step)
        steps += (steps * step < low) - (steps * step > high)
        value = steps * step
    return int(value) if whole else value


def _sized(text: str, schema: Mapping[str, Any]) -> str:
    longest, least = int(schema.get("maxLength", len(text))), int(schema.get("minLength", 0))
    return text[:longest].ljust(least, ".")


def _distinct(items: list[Any], least: int) -> list[Any]:
    """Drop repetitions; where that leaves too few, tell the texts and numbers apart."""
    distinct: list[Any] = []
    for item in items:
        while item in distinct and len(items) <= least and isinstance(item, (str, int, float)):
            item = f"{item}+" if isinstance(item, str) else item + 1  # noqa: PLW2901
        if item not in distinct:
            distinct.append(item)
    return distinct
