"""Values by JSON schema: valid always, and what the prompt says where it says something."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from lunar_core.sandbox.values import fill

PROMPTS = [
    "",
    "Hello",
    "Book 3 nights in San Francisco, CA for Ada Lovelace and 'Charles B.', no breakfast please.",
    "Send an e-mail to ada@example.org on 2024-02-29, priority high, 12.5 and -7 kg.",
    "你好 こんにちは «Grüße» " + "word " * 3000,
]


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: Annotated[str, Field(min_length=3, max_length=12)]


class Node(BaseModel):
    name: str
    children: list[Node] = []
    parent: Node | None = None


class Everything(BaseModel):
    whole: int
    bounded: Annotated[int, Field(gt=10, lt=20)]
    stepped: Annotated[int, Field(multiple_of=5, ge=3)]
    real: float
    share: Annotated[float, Field(gt=0, lt=1)]
    yes: bool
    text: str
    short: Annotated[str, Field(max_length=5)]
    long: Annotated[str, Field(min_length=500)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{4}(x|yz)?$")]
    other_code: Annotated[str, Field(pattern=r"[^a-z]\w+\s?(?:ab|cd)")]
    colour: Colour
    literal: Literal[1, "two"] | None
    maybe: str | None
    either: int | str
    numbers: list[int]
    floats: Annotated[list[float], Field(min_length=3, max_length=4)]
    colours: set[Colour]
    unique: Annotated[set[int], Field(min_length=3)]
    names: list[str]
    none: Annotated[list[int], Field(max_length=0)]
    pair: tuple[int, str]
    table: dict[str, int]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: list[Dog | Cat]
    tree: Node
    nothing: None
    anything: Any
    day: dt.date
    moment: dt.datetime
    clock: dt.time
    span: dt.timedelta
    id: uuid.UUID
    optional: int = 3
    defaulted: Colour = Colour.RED


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:20])
@pytest.mark.parametrize(
    "kind", [Everything, Node, Cat, list[Dog], dict[str, int], Cat | Dog, int, str, bool]
)
def test_a_value_is_valid_whatever_the_prompt(kind: Any, prompt: str) -> None:
    adapter = TypeAdapter(kind)
    adapter.validate_python(fill(adapter.json_schema(), prompt))


SCHEMAS = st.recursive(
    st.one_of(
        st.just({"type": "string"}),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.integers(0, 50).map(lambda n: {"type": "string", "minLength": n}),
        st.integers(0, 50).map(lambda n: {"type": "string", "maxLength": n}),
        st.integers(-50, 50).map(lambda n: {"type": "integer", "minimum": n}),
        st.integers(-50, 50).map(lambda n: {"type": "integer", "maximum": n, "multipleOf": 3}),
        st.integers(-50, 50).map(lambda n: {"type": "number", "exclusiveMaximum": n}),
        st.lists(st.integers() | st.text(max_size=5), min_size=1).map(lambda v: {"enum": v}),
        st.sampled_from([1, "two", None]).map(lambda value: {"enum": [value], "const": value}),
        st.permutations(["string", "null", "boolean"]).map(
            lambda kinds: {"anyOf": [{"type": kind} for kind in kinds], "type": kinds}
        ),
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4).map(
            lambda p: {"type": "object", "properties": p, "required": sorted(p)[::2]}
        ),
        st.tuples(inner, st.integers(0, 3)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + 1}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda b: {"anyOf": b}),
    ),
    max_leaves=12,
)


@given(SCHEMAS, st.text() | st.sampled_from(PROMPTS))
def test_any_schema_gets_a_valid_value(schema: dict[str, Any], prompt: str) -> None:
    assert valid(fill(schema, prompt), schema)


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """Check a value against the keywords that the strategy above uses."""
    if "anyOf" in schema:
        return any(valid(value, branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind, check = CHECKS[schema["type"]]
    return isinstance(value, kind) and bool(check(value, schema))


def sized(value: str, schema: dict[str, Any]) -> bool:
    return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))


def bounded(value: float, schema: dict[str, Any]) -> bool:
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    stepped = "multipleOf" not in schema or value % schema["multipleOf"] == 0
    return low <= value <= high and value < schema.get("exclusiveMaximum", value + 1) and stepped


def shaped(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    parts = schema["properties"]
    named = set(schema["required"]) <= value.keys() <= parts.keys()
    return named and all(valid(item, parts[name]) for name, item in value.items())


def listed(value: list[Any], schema: dict[str, Any]) -> bool:
    counted = schema["minItems"] <= len(value) <= schema["maxItems"]
    return counted and all(valid(item, schema["items"]) for item in value)


CHECKS: dict[str, tuple[Any, Any]] = {
    "string": (str, sized),
    "boolean": (bool, lambda *_: True),
    "null": (type(None), lambda *_: True),
    "integer": (int, bounded),
    "number": ((int, float), bounded),
    "object": (dict, shaped),
    "array": (list, listed),
}


def filled(prompt: str, *, required: bool = True, **properties: Any) -> Any:
    needed = list(properties) if required else []
    schema = {"type": "object", "properties": properties, "required": needed}
    return fill(schema, prompt)


STRING, INTEGER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


@pytest.mark.parametrize(
    ("prompt", "properties", "value"),
    [
        ("What is f(3)?", {"x": INTEGER}, {"x": 3}),
        ("Add 3 and 4", {"a": INTEGER, "b": INTEGER}, {"a": 3, "b": 4}),
        ("for 2 adults and 5 nights", {"adults": INTEGER, "nights": INTEGER},
         {"adults": 2, "nights": 5}),
        ("It costs 1,250.75 euros", {"price": {"type": "number"}}, {"price": 1250.75}),
        ("It is -7 outside", {"degrees": INTEGER}, {"degrees": -7}),
        ("at most 100, or 40", {"n": {"type": "integer", "maximum": 50}}, {"n": 40}),
        ("at least 3", {"n": {"type": "integer", "minimum": 5}}, {"n": 5}),
        ("Is it warm in San Francisco, CA?", {"place": STRING}, {"place": "San Francisco, CA"}),
        ("Fly from Rome to Oslo", {"origin": STRING, "goal": STRING},
         {"origin": "Rome", "goal": "Oslo"}),
        ("Find “The Hobbit” by Tolkien", {"title": STRING, "author": STRING},
         {"title": "The Hobbit", "author": "Tolkien"}),
        ('{"name": "ada", "town": "lower town"}', {"name": STRING, "town": STRING},
         {"name": "ada", "town": "lower town"}),
        ("Tell me about black holes.", {"query": STRING}, {"query": "Tell me about black holes"}),
        ("what time is it", {"query": STRING}, {"query": "what time is it"}),
        ("in celsius, please", {"unit": {"enum": ["fahrenheit", "celsius"]}}, {"unit": "celsius"}),
        ("please", {"unit": {"enum": ["fahrenheit", "celsius"]}}, {"unit": "fahrenheit"}),
        ("with breakfast", {"breakfast": BOOLEAN}, {"breakfast": True}),
        ("two nights", {"breakfast": BOOLEAN}, {"breakfast": False}),
        ("sum 1, 2 and 3.5", {"values": {"type": "array", "items": {"type": "number"}}},
         {"values": [1, 2, 3.5]}),
        ("tag it 'a', 'b'", {"tags": {"type": "array", "items": STRING}}, {"tags": ["a", "b"]}),
        ("Mail ada@example.org", {"to": {"type": "string", "format": "email"}},
         {"to": "ada@example.org"}),
        ("Mail ada@example.org and bob@example.org",
         {"to": {"type": "array", "items": {"type": "string", "format": "email"}}},
         {"to": ["ada@example.org", "bob@example.org"]}),
        ("Invite Ada, who is 36, and Bob, who is 40",
         {"guests": {"type": "array", "items": {"properties": {"name": STRING, "age": INTEGER}}}},
         {"guests": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 40}]}),
        ("order AB-1234x now", {"code": {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}x?$"}},
         {"code": "AB-1234x"}),
    ],
)  # fmt: skip
def test_the_prompt_says_it(prompt: str, properties: dict[str, Any], value: Any) -> None:
    assert filled(prompt, **properties) == value


def test_what_may_be_left_out_is_where_something_is_required() -> None:
    schema: dict[str, Any] = {"properties": {"city": STRING, "days": INTEGER}}
    assert fill({**schema, "required": ["city"]}, "4 days in Lisbon") == {"city": "Lisbon"}
    assert fill(schema, "4 days in Lisbon") == {"city": "Lisbon", "days": 4}


def test_a_nullable_field_is_filled_like_another() -> None:
    nullable = {"anyOf": [{"type": "null"}, STRING]}
    assert filled("The city is Rome", city=nullable) == {"city": "Rome"}
    assert filled("city: Rome", city={"type": ["string", "null"]}) == {"city": "Rome"}
    assert filled("Rome", city={"type": "null"}) == {"city": None}


def test_a_default_is_kept() -> None:
    assert filled("limit 3", limit={"type": "integer", "default": 10}) == {"limit": 10}


def test_a_tree_without_an_end_ends_where_it_may() -> None:
    node = {"$ref": "#"}
    for children in ({"type": "array", "items": node}, {"anyOf": [node, {"type": "null"}]}):
        schema = {"properties": {"name": STRING, "next": children}, "required": ["name", "next"]}
        value, depth = fill(schema, "Hello"), 0
        while value:
            assert isinstance(value["name"], str)
            value, depth = value["next"], depth + 1
            value = value[0] if isinstance(value, list) and value else value
        assert 0 < depth < 20


def test_the_first_branch_that_is_not_null_is_taken() -> None:
    assert fill(TypeAdapter(Cat | Dog).json_schema(), "7 lives") == {"kind": "cat", "lives": 7}
    assert filled("7 lives", lives={"anyOf": [{"type": "null"}, INTEGER]}) == {"lives": 7}


def test_a_value_is_used_once() -> None:
    value = filled("From Rome, 2 days", a=STRING, b=STRING, m=INTEGER, n=INTEGER)
    assert value["a"] == "Rome" != value["b"]
    assert (value["m"], value["n"]) == (2, 1)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 3},
    ],
    ids=repr,
)
def test_a_schema_that_demands_itself_is_given_up(schema: dict[str, Any]) -> None:
    fill(schema, "Hello")  # Comes to an end.


def test_what_only_javascript_takes_for_a_pattern_is_no_pattern() -> None:
    assert filled("Say it to Ada", name={"type": "string", "pattern": r"^\p{L}+$"}) == {
        "name": "Ada"
    }


def test_a_pattern_that_the_prompt_does_not_have_is_made_up() -> None:
    for pattern in (
        r"[^a0 \-_.A]",
        r"^\d{3}-[a-f]+$",
        r"^(yes|no)!?$",
        r"[^\W\d]\S{2,}",
        r"^\s*\.\w\b$",
        r"^.{3}$",
    ):
        text = filled("", code={"type": "string", "pattern": pattern})["code"]
        assert re.search(pattern, text), pattern
