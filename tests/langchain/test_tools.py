"""Tools and structured output, for a named and for the routed model."""

from __future__ import annotations

import pytest
from langchain_core import exceptions as langchain
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from lunar_core import ConfigurationError
from tests.faults_steps import completion, reply


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def get_weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"Sunny in {city}"


class Person(BaseModel):
    """A person."""

    name: str = Field(description="The name of the person")
    age: int


class PersonDict(TypedDict):
    """A person."""

    name: str
    age: int


SCHEMA = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
READY = {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA}}
NAMED = {"name": "Person", "schema": SCHEMA}


def calling(name, arguments, *, finish_reason="tool_calls", **message):
    """A completion that calls one tool."""
    function = {"name": name, "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call], **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return completion(choices=[choice])


MODELS = pytest.mark.parametrize("name", ["gpt-4o-mini", "router"])

# Tools


@MODELS
def test_a_tool_is_called_and_its_result_is_used(chat, way, name):
    model = chat(name).bind_tools([add])
    question = HumanMessage("Use add: a = 2, b = 3")
    answer = way.invoke(model, [question])
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 2, "b": 3})
    result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
    assert "5" in way.invoke(model, [question, answer, result]).content


@MODELS
def test_streamed_calls_are_the_plain_ones(chat, way, name):
    model = chat(name).bind_tools([add, get_weather], tool_choice="any")
    plain = way.invoke(model, "What is the weather in Rome?").tool_calls
    streamed = way.streamed(model, "What is the weather in Rome?").tool_calls
    assert [(c["name"], c["args"]) for c in streamed] == [(c["name"], c["args"]) for c in plain]
    assert plain[0]["args"] == {"city": "Rome"}


CHOICES = [
    ("auto", "auto"),
    ("none", "none"),
    ("required", "required"),
    ("any", "required"),
    (True, "required"),
    (False, None),
    (None, None),
    ("add", {"type": "function", "function": {"name": "add"}}),
    (
        {"type": "function", "function": {"name": "add"}},
        {"type": "function", "function": {"name": "add"}},
    ),
    ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
    ({"type": "any"}, "required"),
    ({"type": "allowed_tools", "mode": "auto"}, {"type": "allowed_tools", "mode": "auto"}),
]


@pytest.mark.parametrize(("choice", "sent"), CHOICES, ids=repr)
def test_every_form_of_tool_choice_is_understood(scripted, fault_server, choice, sent):
    fault_server.script(reply(json=calling("add", '{"a": 1, "b": 2}')))
    scripted().bind_tools([add, get_weather], tool_choice=choice).invoke("hi")
    assert fault_server.bodies[0].get("tool_choice") == sent


def test_a_choice_of_no_such_tool_is_refused_by_name(scripted):
    with pytest.raises(ConfigurationError, match="subtract"):
        scripted().bind_tools([add], tool_choice="subtract")


def test_how_strictly_and_how_many_is_sent(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([add], strict=True, parallel_tool_calls=False).invoke("hi")
    (body,) = fault_server.bodies
    assert body["tools"][0]["function"]["strict"] is True
    assert body["tools"][0]["function"]["parameters"]["additionalProperties"] is False
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    "described",
    [add, Person, PersonDict, add.func, SCHEMA],
    ids=["a tool", "a model", "a TypedDict", "a function", "a schema"],
)
def test_tools_may_be_described_in_any_way_that_langchain_knows(scripted, fault_server, described):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([described]).invoke("hi")
    (sent,) = fault_server.bodies[0]["tools"]
    assert sent["function"]["parameters"]["properties"].keys() in ({"a", "b"}, {"name", "age"})


def test_no_tools_at_all_are_not_sent_as_an_empty_list(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([], strict=True).invoke("hi")
    assert "tools" not in fault_server.bodies[0]


def test_a_tool_of_a_provider_goes_through(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([{"type": "web_search"}]).invoke("hi")
    assert fault_server.bodies[0]["tools"] == [{"type": "web_search"}]


FREE_TEXT = {"name": "run", "description": "Run code."}


@pytest.mark.parametrize(
    "described",
    [{"type": "custom", "custom": FREE_TEXT}, {"type": "custom", **FREE_TEXT}],
    ids=["of chat completions", "of Responses"],
)
@pytest.mark.parametrize("choice", [None, "run", {"type": "custom", "custom": {"name": "run"}}])
def test_a_tool_that_takes_free_text_is_sent_as_chat_completions_describe_it(
    scripted, fault_server, described, choice
):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([described], tool_choice=choice).invoke("hi")
    (body,) = fault_server.bodies
    assert body["tools"] == [{"type": "custom", "custom": FREE_TEXT}]
    named = {"type": "custom", "custom": {"name": "run"}}
    assert body.get("tool_choice") == (None if choice is None else named)


def test_a_tool_of_ones_own_may_be_bound_beside_other_parameters(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted().bind_tools([add], temperature=0.1).invoke("hi")
    assert fault_server.bodies[0]["temperature"] == 0.1


# Structured output

METHODS = pytest.mark.parametrize("method", ["function_calling", "json_schema"])
PROMPT = "A person: name = Ann, age = 31"


@MODELS
@METHODS
@pytest.mark.parametrize("schema", [Person, PersonDict, SCHEMA], ids=["pydantic", "dict", "JSON"])
def test_answers_have_the_form_that_was_asked_for(chat, way, name, method, schema):
    model = chat(name).with_structured_output(schema, method=method)
    found = way.invoke(model, PROMPT)
    assert isinstance(found, Person if schema is Person else dict)
    assert dict(found) == {"name": "Ann", "age": 31}


@METHODS
@pytest.mark.parametrize("schema", [Person, SCHEMA], ids=["pydantic", "JSON"])
def test_they_do_when_streamed(chat, way, method, schema):
    model = chat().with_structured_output(schema, method=method)
    assert dict(way.stream(model, PROMPT)[-1]) == {"name": "Ann", "age": 31}


@pytest.mark.parametrize("schema", [READY, NAMED], ids=["response_format", "name and schema"])
def test_a_schema_that_is_ready_made_is_sent_as_it_is(scripted, fault_server, schema, told):
    fault_server.script(reply(json=completion('{"name": "Ann", "age": 31}')))
    model = scripted().with_structured_output(schema, method="json_schema")
    assert model.invoke("hi", config={"callbacks": [told]}) == {"name": "Ann", "age": 31}
    sent = fault_server.bodies[0]["response_format"]["json_schema"]
    assert (sent["name"], sent["schema"]) == ("Person", SCHEMA)
    shown = told.started[0]["options"]["ls_structured_output_format"]["schema"]
    assert shown["properties"] == SCHEMA["properties"]


@pytest.mark.parametrize("schema", [READY, NAMED], ids=["ready made", "named"])
def test_a_schema_that_is_ready_made_is_a_tools_too(scripted, fault_server, schema):
    fault_server.script(reply(json=calling("Person", '{"name": "Ada", "age": 36}')))
    structured = scripted().with_structured_output(schema, method="function_calling")
    assert structured.invoke("x") == {"name": "Ada", "age": 36}
    (sent,) = fault_server.bodies[0]["tools"]
    assert sent["function"] == {"name": "Person", "parameters": SCHEMA}


def test_json_mode_asks_for_some_json(scripted, fault_server, way):
    fault_server.script(reply(json=completion('{"name": "Ann", "age": 31}')))
    model = scripted().with_structured_output(Person, method="json_mode")
    assert way.invoke(model, "hi") == Person(name="Ann", age=31)
    assert fault_server.bodies[0]["response_format"] == {"type": "json_object"}


def test_json_mode_needs_no_schema(scripted, fault_server):
    fault_server.script(reply(json=completion('{"a": 1}')))
    assert scripted().with_structured_output(method="json_mode").invoke("hi") == {"a": 1}


@METHODS
def test_the_answer_itself_may_be_had_beside_it(chat, way, method):
    model = chat().with_structured_output(Person, method=method, include_raw=True)
    found = way.invoke(model, PROMPT)
    assert found["parsed"] == Person(name="Ann", age=31)
    assert found["parsing_error"] is None
    assert found["raw"].response_metadata["total_cost_usd"] > 0


def test_an_answer_of_another_form_raises_or_is_told(scripted, fault_server, way):
    fault_server.always(reply(json=completion("no JSON")))
    plain = scripted().with_structured_output(Person, method="json_schema")
    with pytest.raises(OutputParserException):
        way.invoke(plain, "hi")
    raw = scripted().with_structured_output(Person, method="json_schema", include_raw=True)
    found = way.invoke(raw, "hi")
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], OutputParserException)
    assert found["raw"].content == "no JSON"


def test_langsmith_sees_which_form_was_asked_for_and_the_service_does_not(
    scripted, fault_server, way, told
):
    call = {"id": "c1", "type": "function"}
    call["function"] = {"name": "Person", "arguments": '{"name": "Ann", "age": 31}'}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    fault_server.always(reply(json=completion(choices=[{"index": 0, "message": message}])))
    model = scripted().with_structured_output(Person)
    way.invoke(model, "hi", config={"callbacks": [told]})
    shown = told.started[0]["options"]["ls_structured_output_format"]
    assert shown["kwargs"]["method"] == "function_calling"
    assert shown["schema"]["properties"].keys() == {"name", "age"}
    assert not [name for name in fault_server.bodies[0] if name.startswith("ls_")]


def test_strictness_is_sent(scripted, fault_server):
    fault_server.always(reply(json=completion('{"name": "Ann", "age": 31}')))
    model = scripted()
    model.with_structured_output(Person, method="json_schema", strict=True).invoke("hi")
    model.with_structured_output(Person, method="json_schema").invoke("hi")
    first, second = (body["response_format"]["json_schema"] for body in fault_server.bodies)
    assert first["strict"] is True
    assert first["schema"]["additionalProperties"] is False
    assert "strict" not in second


def test_tools_may_be_offered_beside_a_schema(scripted, fault_server):
    fault_server.script(reply(json=completion('{"name": "Ann", "age": 31}')))
    model = scripted().with_structured_output(Person, method="json_schema", tools=[add])
    model.invoke("hi")
    assert fault_server.bodies[0]["tools"][0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"schema": Person, "method": "yaml"}, "method"),
        ({"schema": None}, "schema"),
        ({"schema": Person, "method": "json_mode", "strict": True}, "strict"),
        ({"schema": Person, "tools": [add]}, "tools"),
    ],
    ids=["method", "schema", "strict", "tools"],
)
def test_what_cannot_be_asked_for_is_refused_by_name(scripted, asked, named):
    with pytest.raises(ConfigurationError, match=named):
        scripted().with_structured_output(**asked)


KNOWS_REFUSALS = hasattr(langchain, "ModelRefusalError")


@METHODS
def test_a_refusal_is_raised_as_such_where_langchain_knows_of_refusals(
    scripted, fault_server, way, method
):
    message = {"role": "assistant", "content": None, "refusal": "I won't."}
    fault_server.script(reply(json=completion(choices=[{"index": 0, "message": message}])))
    model = scripted().with_structured_output(Person, method=method, include_raw=True)
    found = way.invoke(model, "hi")
    assert found["parsed"] is None
    assert found["raw"].content_blocks == [{"type": "refusal", "refusal": "I won't."}]
    if KNOWS_REFUSALS:
        assert isinstance(found["parsing_error"], langchain.ModelRefusalError)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_of_a_tool_that_was_offered_beside_a_schema_is_no_failed_answer(
    scripted, fault_server, way, method, streamed
):
    called = reply(json=calling("add", '{"a": 1, "b": 2}'))
    fault_server.script(called, called)
    ask = scripted().with_structured_output(Person, method=method, tools=[add], include_raw=True)
    pieces = way.stream(ask, "x") if streamed else [way.invoke(ask, "x")]
    result = {name: value for piece in pieces for name, value in piece.items()}
    assert (result["parsed"], result["parsing_error"]) == (None, None)
    assert result["raw"].tool_calls[0]["name"] == "add"
    assert (
        way.invoke(scripted().with_structured_output(Person, method=method, tools=[add]), "x")
        is None
    )
