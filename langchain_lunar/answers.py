"""Turns whole answers of the API into LangChain's messages and results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_lunar.messages import CALL_EXTRAS, CUSTOM_ARGUMENT, REASONING_NAME
from langchain_lunar.metadata import (
    finite_logprobs,
    generation_info,
    metadata_of,
    token_usage,
    usage_metadata,
)
from lunar_core import bridge
from lunar_core.types import completions as wire
from lunar_core.wire.finish_reasons import is_token_limit
from lunar_core.wire.output import is_cut_off, judge_calls
from lunar_core.wire.replay import (
    REASONING_FIELD,
    REASONING_FIELDS,
    THINKING_FIELD,
    read_call_extra,
)


@dataclass(frozen=True)
class ReadCalls:
    """The tool calls of a finished answer, in LangChain's form."""

    tool_calls: list[ToolCall]
    invalid_tool_calls: list[InvalidToolCall]
    extras: dict[str, dict[str, Any]]
    """The unknown fields of each call, by its id."""


def from_wire(
    message: wire.Message,
    finish_reason: str | None = None,
    own_names: Mapping[str, str] = MappingProxyType({}),
) -> AIMessage:
    """The message of a choice, as an AIMessage without metadata of the call.

    A tool call with incomplete arguments becomes an invalid one, so that no tool runs on it. ``own_names``: the
    original name of each tool that was sent under another name.
    """
    calls = [call.model_dump() for call in message.tool_calls or ()]
    read = read_calls(calls, finish_reason, own_names)
    extra = additional_kwargs(dict(message))
    if read.extras:
        extra[CALL_EXTRAS] = read.extras
    return AIMessage(
        content=message.content or "",
        additional_kwargs=extra,
        response_metadata=reasoning_metadata(dict(message)),
        tool_calls=read.tool_calls,
        invalid_tool_calls=read.invalid_tool_calls,
    )


def read_calls(
    calls: Iterable[Mapping[str, Any]],
    finish_reason: str | None,
    own_names: Mapping[str, str] = MappingProxyType({}),
) -> ReadCalls:
    """The tool calls of a finished message of the API.

    The text of a custom call goes under LangChain's one argument.
    """
    listed = list(calls)
    read = ReadCalls([], [], {})
    are_whole = judge_calls(listed, finish_reason=finish_reason)
    for call, is_whole in zip(listed, are_whole, strict=True):
        call_id, custom, function = call.get("id"), call.get("custom"), call.get("function") or {}
        extra = read_call_extra(call)
        text = (custom.get("input") if custom else function.get("arguments")) or ""
        if custom:
            extra["type"] = "custom"
        name = (custom or function).get("name") or ""
        name = own_names.get(name, name)
        if extra and call_id:
            read.extras[call_id] = extra
        if is_whole:
            arguments = {CUSTOM_ARGUMENT: text} if custom else bridge.parse_arguments(text)
            read.tool_calls.append(tool_call(name=name, args=arguments or {}, id=call_id))
        else:
            why = why_invalid(name, text, finish_reason)
            invalid = invalid_tool_call(name=name, args=text, id=call_id, error=why)
            read.invalid_tool_calls.append(invalid)
    return read


def why_invalid(name: str, text: str, finish_reason: str | None) -> str:
    """What is wrong with an invalid tool call."""
    if is_token_limit(finish_reason) or is_cut_off(text):
        return f"the arguments were cut off (finish_reason {finish_reason!r})"
    return "the arguments are no JSON object" if name else "the call names no tool"


_SPOKEN = frozenset({"role", "content", "tool_calls"})
_OTHER_REASONING_FIELDS = (*REASONING_FIELDS[1:], THINKING_FIELD)


def additional_kwargs(message: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message, or of a delta, beside its text and tool calls.

    Reasoning goes under ``reasoning_content``, whichever name it came by: LangChain's content blocks read that name.
    """
    extra = {key: value for key, value in message.items() if value and key not in _SPOKEN}
    reasoning = bridge.find_reasoning(message)
    if reasoning:
        for name in _OTHER_REASONING_FIELDS:
            if isinstance(extra.get(name), str):
                del extra[name]
        extra[REASONING_FIELD] = reasoning
    return extra


def reasoning_metadata(message: Mapping[str, Any]) -> dict[str, Any]:
    """The name by which the reasoning of a message or delta came, if it is not ``reasoning_content``."""
    name = bridge.find_reasoning_field(message)
    return {} if name in (None, REASONING_FIELD) else {REASONING_NAME: name}


def to_result(
    answer: wire.ChatCompletion,
    *,
    decision: wire.RoutingDecision | None = None,
    own_names: Mapping[str, str] = MappingProxyType({}),
    langsmith_cost: bool = False,
) -> ChatResult:
    """A whole answer as a ChatResult.

    With several choices, usage and cost are stated only on the first: they are the call's, and must not be counted
    twice.
    """
    generations: list[ChatGeneration] = []
    for choice in sorted(answer.choices, key=lambda choice: choice.index):
        first = not generations
        metadata = metadata_of(answer, choice.finish_reason, decision=decision, spent=first)
        message = from_wire(choice.message, choice.finish_reason, own_names)
        message.response_metadata = {**metadata, **message.response_metadata}
        message.usage_metadata = (
            usage_metadata(answer.usage, cost=langsmith_cost) if first else None
        )
        info = generation_info(metadata)
        if choice.logprobs:
            info["logprobs"] = finite_logprobs(choice.logprobs)
        generations.append(ChatGeneration(message=message, generation_info=info))
    metadata = dict(generations[0].message.response_metadata)
    metadata.pop("finish_reason", None)
    return ChatResult(
        generations=generations, llm_output={**metadata, "token_usage": token_usage(answer.usage)}
    )


# Content blocks --------------------------------------------------------------------------------


def _content_blocks(message: AIMessage) -> list[Any]:
    """langchain-core's content blocks, and the refusal, which it reads only from some providers."""
    metadata = {k: v for k, v in message.response_metadata.items() if k != "model_provider"}
    blocks: list[Any] = list(
        message.model_copy(update={"response_metadata": metadata}).content_blocks
    )
    refusal = message.additional_kwargs.get("refusal")
    if refusal and not any(block["type"] == "refusal" for block in blocks):
        blocks.append({"type": "refusal", "refusal": refusal})
    return blocks


register_translator("lunar", _content_blocks, _content_blocks)
