"""A value for a JSON schema: the first valid one, the prompt's own words before any other.

- **object**: its required fields; where none is, all. **anyOf**, **oneOf**: the first branch that
  is not null. **default**, **const**: as it stands. **enum**: what the prompt names, else the first.
- **number**: the prompt's next number that is valid, else the one next to 1. **string**: its next
  quoted words, name or code that is valid, else the shortest text of the pattern or format, else
  all of the prompt. Each is used once. **array**: what the prompt offers, at least one item.
  **boolean**: whether the prompt has the field's name.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from lunar_core.sandbox.prompt import PromptValues

try:  # They moved in Python 3.11.
    from re import _compiler, _parser  # type: ignore[attr-defined, unused-ignore]  # typeshed lacks both
except ImportError:
    import sre_compile as _compiler  # type: ignore[no-redef, unused-ignore]  # Python 3.10
    import sre_parse as _parser  # type: ignore[no-redef, unused-ignore]  # Python 3.10

_DEEPEST, _BOTTOM, _MOST = 8, 50, 3_000
"""Levels that optional fields have at most; levels, and values, of a schema that demands itself."""

_DATE, _TIME = r"2\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", r"([01]\d|2[0-3])(:[0-5]\d){2}"
_FORMATS = {
    "date": rf"^{_DATE}$",
    "time": rf"^{_TIME}Z$",
    "date-time": rf"^{_DATE}T{_TIME}(Z|[+-]\d\d:\d\d)$",
    "duration": r"^P(\d+D|T\d+[HMS])$",
    "email": r"^[\w.+-]+@([\w-]+\.)+[a-z]{2,}$",
    "hostname": r"^([a-z0-9-]+\.)+[a-z]{2,}$",
    "ipv4": r"^(\d{1,3}\.){3}\d{1,3}$",
    "ipv6": r"^([\da-f]{1,4}:){7}[\da-f]{1,4}$",
    "uri": r"^https?://[\w.-]+(/\S*)?$",
    "uuid": r"^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$",
}


def fill(schema: Mapping[str, Any], prompt: str | PromptValues) -> Any:
    """Return a value that is valid against the schema and says what the prompt says.

    >>> city = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
    >>> fill(city, "Is it raining in Porto?")
    {'city': 'Porto'}
    """
    values = prompt if isinstance(prompt, PromptValues) else PromptValues(prompt)
    return _Filler(schema, values).value(schema)


class _Filler:
    def __init__(self, root: Mapping[str, Any], values: PromptValues) -> None:
        self._root, self._values, self._left = root, values, _MOST

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:  # noqa: PLR0911  # one for each kind
        self._left -= 1
        if depth > _BOTTOM or self._left < 0:
            return None
        match schema := self._resolve(schema):
            case {"const": value} | {"default": value}:
                return value
            case {"enum": [first, *_] as options}:
                return next(iter(self._values.find_named(options)), first)
            case {"type": [*kinds]}:
                return self._branch([{**schema, "type": kind} for kind in kinds], name, depth)
            case {"anyOf": [_, *_] as branches} | {"oneOf": [_, *_] as branches}:
                rest = {key: schema[key] for key in schema.keys() - {"anyOf", "oneOf"}}
                return self._branch([{**rest, "allOf": [b]} for b in branches], name, depth)
            case {"type": "boolean" | "null" as kind}:
                return bool(self._values.find_named([name])) if kind == "boolean" else None
            case {"type": "integer" | "number"}:
                return self._number(schema)
            case {"type": "object"} | {"properties": _}:
                return self._object(schema, depth)
            case {"type": "array"} | {"items": _}:
                return self._array(schema, name, depth)
        return self._text(schema, name)

    def _branch(self, branches: list[dict[str, Any]], name: str, depth: int) -> Any:
        solid = [branch for branch in branches if self._resolve(branch).get("type") != "null"]
        if not solid or (len(solid) < len(branches) and depth > _DEEPEST):
            return None
        return self.value(solid[0], name, depth + 1)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        fields = schema.get("properties", {})
        names = schema.get("required") or (fields if depth < _DEEPEST else ())
        return {name: self.value(fields.get(name), name, depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        array = [self.value(item, name, depth + 1) for item in schema.get("prefixItems", ())]
        is_open = not array and depth < _DEEPEST and schema.get("items") is not False
        least, is_set = max(schema.get("minItems", 0), int(is_open)), schema.get("uniqueItems")
        while len(array) < schema.get("maxItems", _MOST):
            offers = len(self._values.offers)
            item = self.value(schema.get("items"), name, depth + 1)
            if len(array) >= least and offers == len(self._values.offers):
                break
            while is_set and item in array and isinstance(item, (str, float, int)):
                item = f"{item}+" if isinstance(item, str) else item + 1
            array.append(item)
        return array

    def _number(self, schema: Mapping[str, Any]) -> int | float:
        def is_valid(value: Any) -> bool:
            return not isinstance(value, str) and bool(value == _clamp(value, schema))

        value = self._values.take(is_valid)
        return _clamp(1, schema) if value is None else value

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        pattern = schema.get("pattern") or _FORMATS.get(schema.get("format", ""), "")
        example = _shortest(pattern)

        def is_valid(value: Any) -> bool:
            if not isinstance(value, str) or value != _fit_length(value, schema):
                return False
            return example is None or re.search(pattern, value) is not None

        whole = self._values.text.rstrip(".?!") or name or "text"
        return self._values.take(is_valid) or example or _fit_length(whole, schema)

    def _resolve(self, schema: Any, followed: int = 0) -> dict[str, Any]:
        """Follow ``$ref`` and merge ``allOf``; ``true`` is the schema that allows anything."""
        if not isinstance(schema, Mapping) or followed > 2 * _DEEPEST:
            return {}
        merged = dict(schema)
        parts = [*merged.pop("allOf", ()), self._target(merged.pop("$ref", None))]
        for part in (self._resolve(part, followed + 1) for part in parts if part):
            fields = {**part.get("properties", {}), **merged.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "required": list(dict.fromkeys(required))}
            merged.update({"properties": fields} if fields else {})
        return merged

    def _target(self, reference: Any) -> Any:
        target: Any = self._root if isinstance(reference, str) else None
        for step in filter(None, str(reference).lstrip("#").split("/")):
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        return target


def _clamp(value: float, schema: Mapping[str, Any]) -> int | float:
    """Return the valid number next to a value."""
    step = schema.get("multipleOf") or (1 if schema["type"] == "integer" else 0)
    nudge = step or 1e-6
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + nudge)
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - nudge)
    value = min(max(value, low), high)
    if step:  # The next multiple may lie just outside the bounds: then it is the one beside it.
        steps = round(value / step)
        value = step * (steps + (steps * step < low) - (steps * step > high))
    return value


def _fit_length(text: str, schema: Mapping[str, Any]) -> str:
    return text[: schema.get("maxLength")].ljust(schema.get("minLength", 0), ".")


def _shortest(pattern: str) -> str | None:
    """Write the shortest text that a pattern finds; None for what only JavaScript understands."""
    try:
        text = _write(_parser.parse(pattern))
        return text if re.search(pattern, text) else None
    except re.error:
        return None


def _write(parsed: Any) -> str:
    """Write each step of a pattern; anchors, assertions and references take no room."""
    text = ""
    for step in parsed:
        kind, argument = str(step[0]), step[1]
        if kind.endswith("REPEAT"):
            text += _write(argument[2]) * int(argument[0])
        elif kind in ("SUBPATTERN", "BRANCH"):
            text += _write(argument[-1] if kind == "SUBPATTERN" else argument[1][0])
        elif kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            single = _compiler.compile(_parser.SubPattern(parsed.state, [step]))
            # The usual characters are tried first.
            codes = itertools.chain(b"a0 -_.A", range(0x110000))
            text += next(filter(single.match, map(chr, codes)), "")
    return text
