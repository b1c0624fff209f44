"""A value for a JSON schema, taken from a prompt by rule.

The rule, per field (``PromptValues`` hands every number, quotation and phrase out once):

- Required fields are always filled; optional ones when the prompt mentions their name or one of
  their enum's values. A default is kept unless the field is mentioned.
- **enum**: the value that the prompt names, else the first; **const**: itself.
- **integer, number**: the number next to the field's name, else the next number of the prompt,
  else 1, moved into the bounds.
- **boolean**: ``name = true``; mentioned without *no* or *not*: true; else false.
- **string**: its format's or pattern's match in the prompt; ``name: value``; the next quotation;
  the next capitalised phrase (*in San Francisco, CA* first); what stands behind *about*; else
  the prompt.
- **array**: all numbers, all quotations, all named enum values, else one item.
- **object**: field by field; ``$ref``, ``allOf`` resolved. **anyOf, oneOf**: the branch whose
  words the prompt has most of, the first among equals; null if the field isn't mentioned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lunar_core.sandbox.formats import formatted, patterned
from lunar_core.sandbox.prompt import PromptValues, words
from lunar_core.sandbox.requests import Schema

if TYPE_CHECKING:
    from collections.abc import Callable

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
    hints = prompt if isinstance(prompt, PromptValues) else PromptValues(prompt)
    return _Filler(schema, hints).value(schema, "", 0)


def asked_keys(prompt: str) -> dict[str, Any]:
    """Make an object for JSON mode, which has no schema: its keys are the quoted words."""
    hints = PromptValues(prompt)
    keys = [quoted for quoted in hints.quotations() if quoted.isidentifier()] or ["answer"]
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": keys,
    }
    return dict(fill(schema, hints))


def schema_in(prompt: str) -> dict[str, Any] | None:
    """Find a JSON schema that stands in the prompt itself (the last one that has properties)."""
    if '"properties"' not in prompt:
        return None
    decoder, found, start = json.JSONDecoder(), None, prompt.find("{")
    while start != -1:
        try:
            value, end = decoder.raw_decode(prompt, start)
        except ValueError:
            end = start + 1
        else:
            if isinstance(value, dict) and "properties" in value and _is_schema(value):
                found = value
        start = prompt.find("{", end)
    return found


def _is_schema(value: dict[str, Any]) -> bool:
    try:
        Schema.model_validate(value)
    except ValidationError:
        return False
    return True


class _Filler:
    def __init__(self, root: Mapping[str, Any], hints: PromptValues) -> None:
        self._root = root
        self._hints = hints
        self._left = _MOST

    def value(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if depth > _BOTTOM or self._left < 0:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return next(iter(self._hints.chosen(schema["enum"])), schema["enum"][0])
        mentioned = self._mentioned(schema, name)
        if "default" in schema and not mentioned:
            return schema["default"]
        if branches := _branches(schema):
            return self._branch(branches, name, depth, mentioned=mentioned)
        return self._of_type(_type(schema), schema, name, depth)

    def _of_type(self, kind: str, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        fill_by_type: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._array(schema, name, depth),
            "integer": lambda: self._number(schema, name, whole=True),
            "number": lambda: self._number(schema, name, whole=False),
            "boolean": lambda: self._boolean(name),
            "null": lambda: None,
        }
        return fill_by_type.get(kind, lambda: self._string(schema, name))()

    def _resolved(self, schema: Any, followed: int = 0) -> dict[str, Any]:
        """Follow ``$ref`` and merge ``allOf``; ``true`` is the schema that allows anything."""
        if not isinstance(schema, Mapping) or followed > 2 * _DEEPEST:
            return {}
        merged = dict(schema)
        reference = merged.pop("$ref", None)
        if isinstance(reference, str):
            merged = {**self._resolved(self._target(reference), followed + 1), **merged}
        for part in (self._resolved(part, followed + 1) for part in merged.pop("allOf", ())):
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged}
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = required
        return merged

    def _target(self, reference: str) -> Any:
        target: Any = self._root
        for step in reference.lstrip("#").strip("/").split("/"):
            if step and isinstance(target, Mapping):
                target = target.get(step.replace("~1", "/").replace("~0", "~"), {})
        return target

    def _mentioned(self, schema: Mapping[str, Any], name: str) -> bool:
        if name and self._hints.mentions(name):
            return True
        options = [value for part in (schema, *_branches(schema)) for value in part.get("enum", ())]
        return bool(self._hints.chosen(options))

    def _branch(
        self, branches: list[dict[str, Any]], name: str, depth: int, *, mentioned: bool
    ) -> Any:
        solid = [branch for branch in branches if branch.get("type") != "null"]
        if not solid or (len(solid) < len(branches) and (not mentioned or depth > _DEEPEST)):
            return None
        best = max(solid, key=lambda branch: self._overlap(self._resolved(branch)))
        return self.value(best, name, depth + 1)

    def _overlap(self, schema: Mapping[str, Any]) -> int:
        told = [str(schema.get("title", "")), *schema.get("properties", {})]
        for part in map(self._resolved, schema.get("properties", {}).values()):
            told += map(str, [part.get("const", ""), *part.get("enum", ())])
        return len(self._hints.words.intersection(words(" ".join(told))))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        return {
            name: self.value(properties.get(name, {}), name, depth + 1)
            for name in [*properties, *(required - set(properties))]
            if name in required
            or (depth < _DEEPEST and self._mentioned(self._resolved(properties[name]), name))
        }

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        found = [self.value(item, name, depth + 1) for item in schema.get("prefixItems", ())]
        items = schema.get("items", True)
        if items is not False and not found and depth < _DEEPEST and most:
            item = self._resolved(items)
            found = self._all(item) or [self.value(item, name, depth + 1)]
        while len(found) < least:
            found.append(self.value(items, name, depth + 1))
        if schema.get("uniqueItems"):
            found = _distinct(found, least)
        return found[: int(min(most, len(found)))]

    def _all(self, item: Mapping[str, Any]) -> list[Any]:
        if "enum" in item:
            return self._hints.chosen(item["enum"])
        if item.get("type") in ("integer", "number"):
            whole = item["type"] == "integer"
            return [_bounded(float(n), item, whole=whole) for n in self._hints.numbers()]
        if item.get("type") == "string" and not item.keys() & {"format", "pattern"}:
            return [_sized(text, item) for text in self._hints.quotations()]
        return []

    def _number(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> int | float:
        found = self._hints.number(name, whole=whole)
        return _bounded(float(found) if found else 1.0, schema, whole=whole)

    def _boolean(self, name: str) -> bool:
        assigned = (self._hints.assigned(name) or "").lower().split() if name else []
        if assigned:
            return assigned[0] in ("true", "yes", "on", "1")
        return bool(name) and self._hints.mentions(name)

    def _string(self, schema: Mapping[str, Any], name: str) -> str:
        if "pattern" in schema and (text := patterned(schema["pattern"], self._hints)) is not None:
            return text
        if "format" in schema and (text := formatted(schema["format"], self._hints)):
            return text
        text = (
            (self._hints.assigned(name) if name else None)
            or self._hints.quotation()
            or self._hints.phrase()
            or self._hints.topic()
            or self._hints.text.rstrip(".?!")
            or name
            or "text"
        )
        return _sized(text, schema)


def _type(schema: Mapping[str, Any]) -> str:
    if "properties" in schema:
        return "object"
    return str(schema.get("type", "array" if "items" in schema else "string"))


def _branches(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the alternatives of a schema; ``"type": ["string", "null"]`` is one, too."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _bounded(value: float, schema: Mapping[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf") or (1 if whole else None)
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    nudge = step or 1e-6
    low = max(low, schema.get("exclusiveMinimum", -math.inf) + nudge)
    high = min(high, schema.get("exclusiveMaximum", math.inf) - nudge)
    value = min(max(value, low), high)
    if step:
        steps = round(value / step)
        if steps * step > high:
            steps = math.floor(high / step)
        if steps * step < low:
            steps = math.ceil(low / step)
        value = steps * step
    return int(value) if whole else value


def _sized(text: str, schema: Mapping[str, Any]) -> str:
    longest, least = int(schema.get("maxLength", len(text))), int(schema.get("minLength", 0))
    return text[:longest].ljust(least, ".")


def _distinct(found: list[Any], least: int) -> list[Any]:
    """Drop repetitions; where that leaves too few, tell the texts and numbers apart."""
    kept: list[Any] = []
    for item in found:
        distinct = item
        while distinct in kept and len(found) <= least and isinstance(distinct, (str, int, float)):
            distinct = f"{distinct}+" if isinstance(distinct, str) else distinct + 1
        if distinct not in kept:
            kept.append(distinct)
    return kept
