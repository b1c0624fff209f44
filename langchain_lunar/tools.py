"""Keywords that give a model tools or structured output."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, TypeGuard, get_args

from langchain_core.messages import AIMessage
from langchain_core.output_parsers import (
    BaseOutputParser,
)
from langchain_core.runnables import (
    Runnable,
    RunnableLambda,
    RunnableMap,
    RunnablePassthrough,
)
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import (
    convert_to_openai_function,
    convert_to_openai_tool,
)
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel
from typing_extensions import is_typeddict

from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.wire.tool_names import fit_name

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
Schema = dict[str, Any] | type
Method = Literal["function_calling", "json_schema", "json_mode", "prompt"]
METHODS = get_args(Method)

SHOWN_FORMAT = "ls_structured_output_format"
"""The keyword of a call that tells LangSmith which form was requested."""
SCHEMA_PROMPT = "lunar_schema_prompt"
"""The keyword of a call with the text that asks for a schema in the prompt."""
HAS_PARSER = "lunar_has_parser"
"""The keyword of a call whose answer a parser checks. (langchain-core does not pass ``SHOWN_FORMAT`` on.)"""
PARSED_AS = "lunar_parsed_as"
"""The keyword of a call with the class whose schema ``response_format`` is."""

UNNAMED = "Answer"
"""The name for a JSON schema without a ``title``: providers require one."""

_INSTRUCTIONS = """Answer with one JSON object and nothing else: no prose, no code fence. It must fit this JSON schema:
{schema}"""


def tool_keywords(
    tools: Sequence[Tool],
    tool_choice: object = None,
    *,
    strict: bool | None = None,
    parallel_tool_calls: bool | None = None,
) -> dict[str, Any]:
    """``tools`` and ``tool_choice`` in the form of the API.

    Raises ConfigurationError for a choice that is no tool's name.
    """
    described = [_describe(tool, strict=strict) for tool in tools]
    names = [tool["function"]["name"] for tool in described if "function" in tool]
    if tool_choice in [tool["custom"]["name"] for tool in described if "custom" in tool]:
        tool_choice = {"type": "custom", "custom": {"name": tool_choice}}
    return without_none(
        tools=described,
        tool_choice=bridge.tool_choice(tool_choice, names),
        parallel_tool_calls=parallel_tool_calls,
    )


def _describe(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    """The API's description of a tool. One that takes free text gets the form of chat completions, not of Responses."""
    described: dict[str, Any] = (
        dict(tool)
        if isinstance(tool, Mapping) and tool.get("type") == "custom"
        else convert_to_openai_tool(tool, strict=strict)
    )
    if described.get("type") != "custom" or "custom" in described:
        return described
    return {"type": "custom", "custom": {k: v for k, v in described.items() if k != "type"}}


def without_none(**keywords: Any) -> dict[str, Any]:
    """The keywords that are not None."""
    return {name: value for name, value in keywords.items() if value is not None}


def structured_keywords(
    schema: Schema | None, method: str, *, strict: bool | None, tools: Sequence[Tool] | None
) -> dict[str, Any]:
    """The keywords that make a model answer in the form of ``schema``, and show that form to LangSmith."""
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
    elif method == "prompt":
        keywords = {SCHEMA_PROMPT: schema_prompt(schema)}
    else:
        schema = named_schema(schema)
        keywords = tool_keywords([schema], tool_name(schema), strict=strict)
    if tools:
        if method in {"function_calling", "prompt"}:
            raise ConfigurationError(f"tools: {method} cannot have others; use json_schema")
        keywords |= tool_keywords(tools, strict=strict)
    keywords[HAS_PARSER] = True
    if schema is None:
        return keywords
    shown = {"kwargs": {"method": method, "strict": strict}, "schema": _make_showable(schema)}
    return {**keywords, SHOWN_FORMAT: shown}


def response_format(schema: Schema, *, strict: bool | None) -> dict[str, Any]:
    """``response_format`` for a pydantic class, a TypedDict, a JSON schema, or a finished ``response_format``."""
    if isinstance(schema, dict) and schema.get("type") == "json_schema":
        return schema
    ready = _ready(schema)
    if ready is not None:
        described = dict(ready)
    else:
        described = convert_to_openai_function(named_schema(schema), strict=strict)
        described["schema"] = described.pop("parameters", {})
    described["name"] = fit_name(described["name"])
    if strict is not None:
        described["strict"] = strict
    return {"type": "json_schema", "json_schema": described}


def named_schema(schema: Schema) -> Schema:
    """``schema`` as langchain-core's functions take it: with a name, and no finished ``response_format``."""
    ready = _ready(schema)
    if ready is not None:
        return {"parameters": ready["schema"], **{k: v for k, v in ready.items() if k != "schema"}}
    is_unnamed = isinstance(schema, dict) and not schema.keys() & {"title", "name", "function"}
    return {"title": UNNAMED, **schema} if isinstance(schema, dict) and is_unnamed else schema


def tool_name(schema: Schema) -> str:
    """The name of the tool that is forced for ``schema``."""
    name: str = convert_to_openai_tool(named_schema(schema))["function"]["name"]
    return name


def schema_prompt(schema: Schema) -> str:
    """The instructions that ask for ``schema`` in a prompt."""
    described = response_format(schema, strict=None)["json_schema"]
    text = json.dumps(described.get("schema", described), ensure_ascii=False)
    return _INSTRUCTIONS.format(schema=text)


def is_schema_class(value: object) -> TypeGuard[type]:
    """Whether ``value`` is a class whose objects an answer may be: pydantic's, or a TypedDict."""
    return isinstance(value, type) and (is_basemodel_subclass(value) or is_typeddict(value))


def _ready(schema: Schema) -> dict[str, Any] | None:
    """The name and the schema of a finished ``response_format``, or of its ``json_schema``. None for a plain schema."""
    inner = schema.get("json_schema", schema) if isinstance(schema, dict) else None
    return inner if isinstance(inner, dict) and {"name", "schema"} <= inner.keys() else None


def _make_showable(schema: Schema) -> Schema:
    """``schema`` in a form that langchain-core can show: it does not know a finished ``response_format``."""
    ready = _ready(schema)
    return schema if ready is None else {"title": ready["name"], **ready["schema"]}


def with_parser(
    model: Runnable[Any, AIMessage], parser: BaseOutputParser[Any], *, include_raw: bool
) -> Runnable[Any, dict[str, Any] | BaseModel]:
    """``model`` with its answers parsed. ``include_raw``: return the message and the parsing error too."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    # Not streamed: output that has begun before parsing fails could not fall back.
    at_once = RunnableLambda(parsed.invoke, parsed.ainvoke, name="parse")
    return RunnableMap(raw=model) | at_once.with_fallbacks([failed], exception_key="parsing_error")
