"""Tools and structured output: what is bound to a model for them, and what reads its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputKeyToolsParser,
    JsonOutputParser,
    PydanticOutputParser,
    PydanticToolsParser,
)
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import (
    convert_to_openai_function,
    convert_to_openai_tool,
)
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel

from lunar_core import bridge
from lunar_core.errors import ConfigurationError

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
Schema = dict[str, Any] | type
Method = Literal["function_calling", "json_schema", "json_mode"]
METHODS = ("function_calling", "json_schema", "json_mode")


def tool_keywords(
    tools: Sequence[Tool],
    tool_choice: object = None,
    *,
    strict: bool | None = None,
    parallel_tool_calls: bool | None = None,
) -> dict[str, Any]:
    """``tools`` and ``tool_choice`` in the form of the API. Raises ConfigurationError for a choice of no such tool."""
    described = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
    names = [tool["function"]["name"] for tool in described if "function" in tool]
    keywords = {
        "tools": described,
        "tool_choice": bridge.tool_choice(tool_choice, names),
        "parallel_tool_calls": parallel_tool_calls,
    }
    return {key: value for key, value in keywords.items() if value is not None}


def structured_keywords(
    schema: Schema | None, method: str, *, strict: bool | None, tools: Sequence[Tool] | None
) -> dict[str, Any]:
    """What makes a model answer in the form of ``schema``, and lets LangSmith show that it was asked to."""
    if method not in METHODS:
        raise ConfigurationError(f"method: expected one of {', '.join(METHODS)}, not {method!r}")
    if method == "json_mode":
        if strict is not None:
            raise ConfigurationError("strict: json_mode has no schema to be strict about")
        keywords: dict[str, Any] = {"response_format": {"type": "json_object"}}
    elif schema is None:
        raise ConfigurationError(f"schema: {method} needs one")
    elif method == "json_schema":
        keywords = {"response_format": response_format(schema, strict=strict)}
    else:
        name = convert_to_openai_tool(schema)["function"]["name"]
        keywords = tool_keywords([schema], name, strict=strict)
    if tools:
        if method == "function_calling":
            raise ConfigurationError(
                "tools: function_calling forces a tool of its own; use json_schema"
            )
        keywords |= tool_keywords(tools, strict=strict)
    if schema is None:
        return keywords
    shown = {"kwargs": {"method": method, "strict": strict}, "schema": _described(schema)}
    return {**keywords, "ls_structured_output_format": shown}


def response_format(schema: Schema, *, strict: bool | None) -> dict[str, Any]:
    """``response_format`` for a pydantic class, a TypedDict, a JSON schema, or one that is ready made."""
    if isinstance(schema, dict) and schema.get("type") == "json_schema":
        return schema
    if isinstance(schema, dict) and {"name", "schema"} <= schema.keys():
        described = dict(schema)
    else:
        described = convert_to_openai_function(schema, strict=strict)
        described["schema"] = described.pop("parameters", {})
    if strict is not None:
        described["strict"] = strict
    return {"type": "json_schema", "json_schema": described}


def _described(schema: Schema) -> Schema:
    """``schema`` in a form that langchain-core can show: it doesn't know ready-made response formats."""
    ready = schema.get("json_schema", schema) if isinstance(schema, dict) else schema
    if isinstance(ready, dict) and {"name", "schema"} <= ready.keys():
        return {"title": ready["name"], **ready["schema"]}
    return ready


def parser_of(schema: Schema | None, method: str) -> BaseOutputParser[Any]:
    """What reads the answer: objects of a pydantic class, else dicts."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        if method == "function_calling":
            return PydanticToolsParser(tools=[schema], first_tool_only=True)
        return PydanticOutputParser[Any](pydantic_object=schema)
    if method == "function_calling" and schema is not None:
        name = convert_to_openai_tool(schema)["function"]["name"]
        return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    return JsonOutputParser()


def with_parser(
    model: Runnable[Any, AIMessage], parser: BaseOutputParser[Any], *, include_raw: bool
) -> Runnable[Any, dict[str, Any] | BaseModel]:
    """``model``, its answers parsed; with ``include_raw`` beside the message itself, or the error of parsing."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
