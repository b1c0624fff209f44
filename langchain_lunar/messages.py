"""LangChain's messages → the API's, and answers of the API → LangChain's messages. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_lunar.content import Part, to_content
from langchain_lunar.metadata import generation_info, metadata_of, token_usage, usage_metadata
from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.types import completions as wire

# To the API ------------------------------------------------------------------------------------


def to_wire(messages: Sequence[BaseMessage]) -> list[Part]:
    """A conversation as ``messages`` of the API. Raises ConfigurationError for what it cannot carry."""
    return [turn for message in messages for turn in _turns(message)]


def _turns(message: BaseMessage) -> Iterator[Part]:
    """Mostly one turn; a user message in Anthropic's style may carry results of tools, which are turns here."""
    if isinstance(message, AIMessage):
        yield _assistant(message)
    elif isinstance(message, ToolMessage):
        yield _tool(message.tool_call_id, message.content)
    elif isinstance(message, HumanMessage):
        yield from _user(message)
    elif isinstance(message, SystemMessage):
        yield _named(message, message.additional_kwargs.get("__openai_role__", "system"))
    elif isinstance(message, ChatMessage):
        yield _named(message, message.role)
    elif isinstance(message, FunctionMessage):
        yield _named(message, "function")
    else:
        raise ConfigurationError(f"messages: a {type(message).__name__} cannot be sent to a model")


def _named(message: BaseMessage, role: str) -> Part:
    turn: Part = {"role": role, "content": to_content(message.content)}
    if message.name:
        turn["name"] = message.name
    return turn


def _tool(call_id: str, content: str | Sequence[str | Mapping[str, Any]]) -> Part:
    return {"role": "tool", "tool_call_id": call_id, "content": to_content(content)}


def _user(message: HumanMessage) -> Iterator[Part]:
    content = message.content
    results = [
        block
        for block in (content if isinstance(content, list) else ())
        if isinstance(block, dict) and block.get("type") == "tool_result"
    ]
    if not results:
        yield _named(message, "user")
        return
    for result in results:
        yield _tool(str(result.get("tool_use_id")), result.get("content") or "")
    rest = message.model_copy(update={"content": [b for b in content if b not in results]})
    if rest.content:
        yield _named(rest, "user")


def _assistant(message: AIMessage) -> Part:
    turn = _named(message, "assistant")
    calls = [
        _call(call["id"], call["name"], json.dumps(call["args"], ensure_ascii=False))
        for call in message.tool_calls or _anthropic_calls(message.content)
    ]
    calls += [_call(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls]
    if calls:
        turn["tool_calls"] = calls  # beside "" at least: the service was seen to refuse null
    for name in ("function_call", "refusal"):
        if message.additional_kwargs.get(name):
            turn[name] = message.additional_kwargs[name]
    return turn


def _call(call_id: str | None, name: str | None, arguments: str | None) -> Part:
    function = {"name": name or "", "arguments": arguments or "{}"}
    return {"id": call_id or "", "type": "function", "function": function}


def _anthropic_calls(content: str | Sequence[str | Mapping[str, Any]]) -> list[ToolCall]:
    """The calls of a message that another vendor's class, or a hand, has written without ``tool_calls``."""
    return [
        tool_call(name=block["name"], args=block.get("input") or {}, id=block.get("id"))
        for block in content
        if isinstance(block, Mapping) and block.get("type") == "tool_use"
    ]


# From the API ----------------------------------------------------------------------------------


def from_wire(message: wire.Message) -> AIMessage:
    """The assistant's message of a choice, without what is known of the call."""
    tool_calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in message.tool_calls or ():
        name, text = call.function.name, call.function.arguments
        arguments = bridge.parse_arguments(text)
        if arguments is None:
            why = "the arguments are no JSON object"
            invalid.append(invalid_tool_call(name=name, args=text, id=call.id, error=why))
        else:
            tool_calls.append(tool_call(name=name, args=arguments, id=call.id))
    return AIMessage(
        content=message.content or "",
        additional_kwargs=additional_kwargs(dict(message)),
        tool_calls=tool_calls,
        invalid_tool_calls=invalid,
    )


_SPOKEN = frozenset({"role", "content", "tool_calls"})


def additional_kwargs(message: Mapping[str, Any]) -> dict[str, Any]:
    """All that a message, or a piece of one, says beside its text and tool calls.

    Reasoning is ``reasoning_content``, by whichever of its two names it came: LangChain's content blocks read that.
    """
    extra = {key: value for key, value in message.items() if value and key not in _SPOKEN}
    if isinstance(extra.get("reasoning"), str):
        extra.setdefault("reasoning_content", extra.pop("reasoning"))
        extra.pop("reasoning", None)
    return extra


def text_of(content: object) -> str:
    """The text of a content that may be a string, parts or nothing."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))


def to_result(
    answer: wire.ChatCompletion,
    *,
    decision: wire.RoutingDecision | None = None,
    langsmith_cost: bool = False,
) -> ChatResult:
    """A whole answer. Usage and cost are the call's: with several choices they are told once, with the first."""
    generations: list[ChatGeneration] = []
    for choice in answer.choices:
        first = not generations
        metadata = metadata_of(answer, choice.finish_reason, decision=decision, spent=first)
        message = from_wire(choice.message)
        message.response_metadata = metadata
        message.usage_metadata = (
            usage_metadata(answer.usage, cost=langsmith_cost) if first else None
        )
        info = generation_info(metadata)
        if choice.logprobs:
            info["logprobs"] = choice.logprobs
        generations.append(ChatGeneration(message=message, generation_info=info))
    metadata = dict(generations[0].message.response_metadata)
    metadata.pop("finish_reason", None)
    return ChatResult(
        generations=generations, llm_output={**metadata, "token_usage": token_usage(answer.usage)}
    )


# Content blocks --------------------------------------------------------------------------------


def _content_blocks(message: AIMessage) -> list[Any]:
    """What langchain-core makes of any message, and the refusal, of which it knows from some providers only."""
    metadata = {k: v for k, v in message.response_metadata.items() if k != "model_provider"}
    blocks: list[Any] = list(
        message.model_copy(update={"response_metadata": metadata}).content_blocks
    )
    refusal = message.additional_kwargs.get("refusal")
    if refusal and not any(block["type"] == "refusal" for block in blocks):
        blocks.append({"type": "refusal", "refusal": refusal})
    return blocks


register_translator("lunar", _content_blocks, _content_blocks)
