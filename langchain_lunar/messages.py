"""LangChain's messages → the API's, and answers of the API → LangChain's messages. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

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
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_lunar.content import Part, to_content
from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.wire import answers
from lunar_core.wire import completions as wire
from lunar_core.wire.usage import Usage

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
        turn["tool_calls"] = calls
        turn["content"] = turn["content"] or None
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
        arguments = bridge.arguments(text)
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
    found = {key: value for key, value in message.items() if value and key not in _SPOKEN}
    if isinstance(found.get("reasoning"), str):
        found.setdefault("reasoning_content", found.pop("reasoning"))
        found.pop("reasoning", None)
    return found


def text_of(content: object) -> str:
    """The text of a content that may be a string, parts or nothing."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))


_GATEWAY = {
    "model": "model_name",
    "provider": "provider",
    "requested_model": "requested_model",
    "call_id": "call_id",
    "total_cost_usd": "total_cost_usd",
    "routing": "routing",
}
"""What core's tracers call it → what ``response_metadata`` calls it."""


def generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to callbacks and tracers beside the message.

    Core's tracers take ``lc_gateway_metadata`` for the run's own: model and provider there override those that were
    asked for, so that LangSmith prices the model which answered. Core keeps the key off the public message.
    """
    gateway = {key: metadata[name] for key, name in _GATEWAY.items() if name in metadata}
    info: dict[str, Any] = {"lc_gateway_metadata": gateway}
    if "finish_reason" in metadata:
        info["finish_reason"] = metadata["finish_reason"]
    return info


def metadata_beside(info: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``generation_info`` kept of the metadata: all that LangChain tells of a message it did not finish."""
    gateway = (info or {}).get("lc_gateway_metadata") or {}
    return {name: gateway[key] for key, name in _GATEWAY.items() if key in gateway}


def usage_metadata(usage: Usage | None, *, cost: bool = False) -> UsageMetadata | None:
    """Tokens as LangChain counts them: whole numbers alone, and None where the service counted none.

    ``cost``: also the USD, for LangSmith. langchain-core's own usage callback cannot add floats up.
    """
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return None
    sent, said = usage.prompt_tokens or 0, usage.completion_tokens or 0
    found = UsageMetadata(
        input_tokens=sent, output_tokens=said, total_tokens=usage.total_tokens or sent + said
    )
    read_in, written = _input_details(usage), _output_details(usage)
    if read_in:
        found["input_token_details"] = read_in
    if written:
        found["output_token_details"] = written
    if cost:
        found.update(_costs(usage))  # type: ignore[typeddict-item]  # LangSmith's keys, beside core's
    return found


def _input_details(usage: Usage) -> InputTokenDetails:
    given, stated = usage.prompt_tokens_details, usage.model_extra or {}
    beside = (given.model_extra or {}) if given else {}
    found = {
        "cache_read": given.cached_tokens if given else None,
        "cache_creation": beside.get("cache_creation_tokens", beside.get("cache_write_tokens")),
        "audio": given.audio_tokens if given else None,
    }
    if found["cache_read"] is None:
        found["cache_read"] = stated.get("cache_read_input_tokens")
    if found["cache_creation"] is None:
        found["cache_creation"] = stated.get("cache_creation_input_tokens")
    return cast("InputTokenDetails", _counts(found))


def _output_details(usage: Usage) -> OutputTokenDetails:
    given = usage.completion_tokens_details
    if given is None:
        return OutputTokenDetails()
    found = {"reasoning": given.reasoning_tokens, "audio": given.audio_tokens}
    return cast("OutputTokenDetails", _counts(found))


def _counts(found: Mapping[str, object]) -> dict[str, int]:
    return {key: int(n) for key, n in found.items() if isinstance(n, (int, float)) and n >= 0}


def _costs(usage: Usage) -> dict[str, float]:
    names = {
        "input_cost": usage.input_cost_usd,
        "output_cost": usage.output_cost_usd,
        "total_cost": usage.total_cost_usd,
    }
    return {name: value for name, value in names.items() if value is not None}


def metadata_of(
    answer: wire.ChatCompletion | wire.Completion,
    finish_reason: str | None,
    *,
    decided: wire.RoutingDecision | None = None,
    spent: bool = True,
) -> dict[str, Any]:
    """Everything known of an answer but its tokens and its text.

    ``decided``: the decision that was made before it was asked for. ``spent``: with what it cost and how long it took.
    """
    routing = answer.routing if isinstance(answer, wire.ChatCompletion) else None
    return with_extra(
        bridge.metadata(
            call=answer.call,
            model=answer.model,
            answer_id=answer.id,
            finish_reason=finish_reason,
            usage=answer.usage if spent else None,
            routing=routing or decided,
            extra=answer.model_extra,
        ),
        answer.model_extra,
    )


def with_extra(metadata: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """``metadata``, and what the service says beyond the contract (``system_fingerprint``, ``citations``, …)."""
    beyond = {name: value for name, value in (extra or {}).items() if value is not None}
    return {**beyond, **metadata}


def decision(route: object) -> wire.RoutingDecision | None:
    """What a dict says of a decision, or None if it says nothing of the kind."""
    if not isinstance(route, dict):
        return None
    try:
        return answers.forgiving(wire.RoutingDecision, dict(route))
    except ValueError:
        return None


def to_result(
    answer: wire.ChatCompletion,
    *,
    decided: wire.RoutingDecision | None = None,
    langsmith_cost: bool = False,
) -> ChatResult:
    """A whole answer. Usage and cost are the call's: with several choices they are told once, with the first."""
    generations: list[ChatGeneration] = []
    for choice in answer.choices:
        first = not generations
        metadata = metadata_of(answer, choice.finish_reason, decided=decided, spent=first)
        message = from_wire(choice.message)
        message.response_metadata = metadata
        message.usage_metadata = (
            usage_metadata(answer.usage, cost=langsmith_cost) if first else None
        )
        info = generation_info(metadata)
        if choice.logprobs:
            info["logprobs"] = choice.logprobs
        generations.append(ChatGeneration(message=message, generation_info=info))
    told = dict(generations[0].message.response_metadata)
    told.pop("finish_reason", None)
    return ChatResult(
        generations=generations, llm_output={**told, "token_usage": _tokens(answer.usage)}
    )


def _tokens(usage: Usage | None) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: count for name in names if (count := getattr(usage, name, None)) is not None}


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
