"""Turns LlamaIndex's tools into the API's, and the API's tool calls back. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json
from llama_index.core.tools.types import BaseTool
from pydantic_core import from_json

from llama_index_lunar.messages import tool_calls_of
from lunar_core import bridge
from lunar_core.wire.tool_names import fit_names

JSONObject = dict[str, Any]

# OpenAI's reasoning models refuse the field, whatever its value.
_NO_PARALLEL = re.compile(r"(?:^|/)o\d")


def chat_arguments(
    tools: Sequence[BaseTool],
    user_msg: str | ChatMessage | None,
    chat_history: Sequence[ChatMessage] | None,
    *,
    model: str,
    parallel: bool,
    required: bool,
    choice: object,
    strict: bool,
) -> JSONObject:
    """The arguments of ``chat()`` for a chat with tools. ``chat_history`` is not changed.

    ``choice``: any form of ``tool_choice``; None leaves it to ``required``. Raises ConfigurationError for a choice that
    is none of the tools.
    """
    messages = list(chat_history or ())
    if user_msg is not None:
        if isinstance(user_msg, str):
            user_msg = ChatMessage(user_msg, role=MessageRole.USER)
        messages.append(user_msg)
    specs = [describe_tool(tool, strict=strict) for tool in tools]
    arguments: JSONObject = {"messages": messages, "tools": None, "tool_choice": None}
    if specs:
        names = [spec["function"]["name"] for spec in specs]
        chosen = bridge.tool_choice(choice, names)
        arguments["tools"] = specs
        arguments["tool_choice"] = chosen or ("required" if required else "auto")
        if not _NO_PARALLEL.search(model):
            arguments["parallel_tool_calls"] = parallel
    return arguments


def describe_tool(tool: BaseTool, *, strict: bool) -> JSONObject:
    """The API's description of a tool."""
    described: JSONObject = tool.metadata.to_openai_tool(skip_length_check=True)
    # The tool's own name, by which agents look it up: LlamaIndex's description may give two tools the same.
    described["function"]["name"] = tool.metadata.get_name()
    if strict:
        described["function"]["strict"] = True
        described["function"]["parameters"] = close_schema(described["function"]["parameters"])
    return described


def fit_tool_names(params: JSONObject) -> tuple[JSONObject, dict[str, str]]:
    """``params`` with names of tools that providers accept, and the original name of each sent one.

    Tools of MCP servers have dots in their names. Names in the conversation and in ``tool_choice`` are changed too.
    """
    own = [tool_name(tool) for tool in params.get("tools") or ()]
    called = [tool_name(call) for m in params["messages"] for call in m.get("tool_calls") or ()]
    fitted = fit_names(name for name in [*own, *called] if name)
    if all(name == sent for name, sent in fitted.items()):
        return params, {}
    renamed = dict(params)
    for key in ("tools", "tool_choice"):
        if params.get(key):
            renamed[key] = _rename(params[key], fitted)
    renamed["messages"] = [
        {**m, "tool_calls": _rename(m["tool_calls"], fitted)} if m.get("tool_calls") else m
        for m in params["messages"]
    ]
    return renamed, {sent: name for name, sent in fitted.items() if name in own}


def tool_name(tool: object) -> str | None:
    """The name in a description, a choice or a call of a tool; None if it has none."""
    if not isinstance(tool, Mapping):
        return None
    kinds = (tool.get("function"), tool.get("custom"))
    names = [kind.get("name") for kind in kinds if isinstance(kind, Mapping)]
    return next((name for name in names if isinstance(name, str)), None)


def _rename(value: Any, fitted: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_rename(item, fitted) for item in value]
    if tool_name(value) not in fitted:
        return value
    kind = "function" if isinstance(value.get("function"), Mapping) else "custom"
    return {**value, kind: {**value[kind], "name": fitted[value[kind]["name"]]}}


def close_schema(schema: Any) -> Any:
    """``schema`` for strict mode: every field of every object is required, and no others are allowed."""
    if isinstance(schema, list):
        return [close_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    shut = {
        name: {key: close_schema(value) for key, value in inner.items()}
        if name in ("properties", "$defs", "definitions") and isinstance(inner, Mapping)
        else close_schema(inner)
        for name, inner in schema.items()
        if name != "default"
    }
    if isinstance(shut.get("properties"), dict):
        shut |= {"required": list(shut["properties"]), "additionalProperties": False}
    return shut


def read_selections(response: ChatResponse) -> list[ToolSelection]:
    """The tool calls of a response, with their arguments as far as they have come.

    A finished response has only complete ones. The free text of a custom tool is its argument ``input``.
    """
    return [
        ToolSelection(tool_id=call["id"], tool_name=name, tool_kwargs=tool_kwargs)
        for call in tool_calls_of(response.message)
        for name, tool_kwargs in [_name_and_arguments(call)]
    ]


def _name_and_arguments(call: JSONObject) -> tuple[str, JSONObject]:
    if "custom" in call:
        return call["custom"]["name"], {"input": call["custom"]["input"]}
    return call["function"]["name"], read_arguments(call["function"]["arguments"])


def keep_first(response: ChatResponse) -> None:
    """Drop all tool calls but the first: some models make several against instructions."""
    message = response.message
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if len(calls) > 1:
        message.blocks = [block for block in message.blocks if block not in calls[1:]]
    plain = message.additional_kwargs.get("tool_calls")
    if plain:
        message.additional_kwargs["tool_calls"] = plain[:1]


def read_arguments(text: str) -> JSONObject:
    """Parse a JSON object, complete or cut off as in a stream. {} if it is none. Text after it is ignored."""
    return read_object(text)[0]


def read_object(text: str) -> tuple[JSONObject, bool]:
    """Parse a JSON object as far as it has come. Returns it and whether it is complete; ({}, False) if it is none."""
    whole = bridge.parse_arguments(text)
    if whole is not None:
        return whole, bool(text.strip())
    for read, is_whole in ((_beginning, True), (_cut_off, False), (parse_partial_json, False)):
        try:
            value: object = read(text)
        except (ValueError, TypeError, RecursionError):
            continue
        return (value, is_whole) if isinstance(value, dict) else ({}, False)
    return {}, False


def _beginning(text: str) -> object:
    value, _ = json.JSONDecoder(strict=False).raw_decode(text)
    return value


def _cut_off(text: str) -> object:
    """Parse incomplete JSON including its last string, which old versions of pydantic refuse (TypeError)."""
    return from_json(text, allow_partial="trailing-strings")
