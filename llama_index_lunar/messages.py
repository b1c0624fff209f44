"""Turns LlamaIndex's messages into the API's, with the fields that go back to the model that wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ThinkingBlock, ToolCallBlock

from llama_index_lunar.answer_parts import REASONING_NAME, REPLAY
from llama_index_lunar.content import to_assistant_content, to_content
from lunar_core import bridge
from lunar_core.wire.replay import (
    REASONING_FIELD,
    REASONING_FIELDS,
    SIGNED_FIELDS,
    add_call_extra,
    find_open_tool_loop,
    is_same_model,
    read_call_extra,
)
from lunar_core.wire.tool_results import match_results

JSONObject = dict[str, Any]

ReplayReasoning = Literal["tools", "never", "always"]
"""Which turns go back to their model with their reasoning: those of the open tool loop, none, or all."""

# The API's roles are system, user, assistant and tool.
_ROLES = {
    MessageRole.DEVELOPER: "system",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.FUNCTION: "tool",
}


class Conversation:
    """LlamaIndex's messages in the form of the API. The messages themselves are not changed.

    Only a message's role, blocks, name and tool calls are sent, and nothing else that memories and other vendors'
    classes put into ``additional_kwargs``. Tool calls and results without ids are matched. Calls without a name are
    left out, with their results. Raises ConfigurationError for a block that the API cannot carry, and for arguments
    that JSON cannot carry.
    """

    def __init__(self, messages: Sequence[ChatMessage]) -> None:
        wire = [to_message(message, f"messages[{n}]") for n, message in enumerate(messages)]
        nameless = {call_id for message in messages for call_id in _ids_of_nameless_calls(message)}
        self._pairs = [
            (message, sent)
            for message, sent in zip(messages, wire, strict=True)
            if sent.get("tool_call_id") not in nameless
        ]
        self.messages = [sent for _, sent in self._pairs]

    def for_model(self, model: str, replay_reasoning: ReplayReasoning) -> list[JSONObject]:
        """The messages as sent to ``model``: with its signed fields, and with its reasoning by ``replay_reasoning``.

        A message that another model wrote goes without either.
        """
        loop = find_open_tool_loop([message["role"] for message in self.messages])
        sent = []
        for place, (message, wire) in enumerate(self._pairs):
            replay = message.additional_kwargs.get(REPLAY)
            replay = replay if isinstance(replay, dict) else {}
            writer = replay.get("model")
            is_own = not isinstance(writer, str) or is_same_model(writer, model)
            if wire["role"] != "assistant" or not is_own:
                sent.append(wire)
                continue
            has_reasoning = replay_reasoning == "always" or (
                replay_reasoning == "tools" and place >= loop
            )
            signed = {name: replay[name] for name in SIGNED_FIELDS if name in replay}
            reasoning = _reasoning_of(message) if has_reasoning else ""
            name = replay.get(REASONING_NAME, REASONING_FIELD)
            if reasoning and name in REASONING_FIELDS:
                signed[name] = reasoning
            sent.append({**_with_signed_calls(message, wire, is_ours=bool(replay)), **signed})
        return match_results(sent)  # last: signed fields and routes are found by the ids that came


def to_wire(messages: Sequence[ChatMessage]) -> list[JSONObject]:
    """A conversation in the form of the API, without signed fields."""
    return match_results(Conversation(messages).messages)


def to_message(message: ChatMessage, place: str = "messages") -> JSONObject:
    """One message in the form of the API."""
    role, extra = _ROLES.get(message.role, message.role.value), message.additional_kwargs
    convert = to_assistant_content if role == "assistant" else to_content
    wire: JSONObject = {"role": role, "content": convert(message.blocks, place)}
    name = extra.get("name")
    if isinstance(name, str) and name:
        wire["name"] = name
    if role == "assistant":
        calls = tool_calls_of(message, place)
        if calls:  # content stays "" and not null, which the service was seen to refuse
            wire["tool_calls"] = calls
    elif role == "tool":
        wire["tool_call_id"] = extra.get("tool_call_id") or ""
    return wire


def tool_calls_of(message: ChatMessage, place: str = "messages") -> list[JSONObject]:
    """The tool calls of an assistant's message in the form of the API.

    They are read from its blocks. Without any, from ``tool_calls`` or ``function_call`` of its ``additional_kwargs``:
    dicts, or the objects that other vendors' classes put there.
    """
    values = _plain_calls(message)
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if not blocks:
        calls = [_call_of_value(value, place) for value in values]
        return [call for call in calls if call is not None]
    custom_ids = {_field(value, "id") for value in values if _field(value, "custom") is not None}
    return [
        _make_call(
            block.tool_call_id,
            block.tool_name,
            cast("object", block.tool_kwargs),
            place,
            is_custom=block.tool_call_id in custom_ids,
        )
        for block in blocks
        if block.tool_name
    ]


def _plain_calls(message: ChatMessage) -> list[object]:
    values = message.additional_kwargs.get("tool_calls")
    if isinstance(values, (list, tuple)):
        return list(values)
    return [message.additional_kwargs.get("function_call")]  # OpenAI's older form


def _call_of_value(value: object, place: str) -> JSONObject | None:
    custom, function = _field(value, "custom"), _field(value, "function")
    holder = custom or function or value
    name = _field(holder, "name")
    if not isinstance(name, str) or not name:
        return None
    is_anthropics = holder is value and _field(value, "type") == "tool_use"
    arguments = _field(holder, "input" if custom or is_anthropics else "arguments")
    return _make_call(_field(value, "id"), name, arguments, place, is_custom=custom is not None)


def _make_call(
    call_id: object, name: str, arguments: object, place: str, *, is_custom: bool
) -> JSONObject:
    if arguments is None or arguments == "":
        arguments = "" if is_custom else "{}"
    elif not isinstance(arguments, str):
        arguments = bridge.write_arguments(arguments, place)
    if is_custom:
        custom = {"name": name, "input": arguments}
        return {"id": call_id or "", "type": "custom", "custom": custom}
    function = {"name": name, "arguments": arguments}
    return {"id": call_id or "", "type": "function", "function": function}


def _ids_of_nameless_calls(message: ChatMessage) -> list[object]:
    """The ids of calls without a name, which cannot be sent, and whose results cannot either."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [b.tool_call_id for b in blocks if not b.tool_name and b.tool_call_id]
    ids = [_field(v, "id") for v in _plain_calls(message) if _call_of_value(v, "messages") is None]
    return [call_id for call_id in ids if call_id]


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _reasoning_of(message: ChatMessage) -> str:
    """The model's reasoning. Other vendors' signed thinking blocks are not meant."""
    return "".join(
        block.content or ""
        for block in message.blocks
        if isinstance(block, ThinkingBlock) and not block.additional_information
    )


def _with_signed_calls(message: ChatMessage, wire: JSONObject, *, is_ours: bool) -> JSONObject:
    """``wire`` with the unknown fields of its tool calls.

    If another class made the message: only with fields that providers are known to sign.
    """
    extras = {
        call["id"]: {
            name: value
            for name, value in read_call_extra(call).items()
            if is_ours or name in SIGNED_FIELDS
        }
        for call in _plain_calls(message)
        if isinstance(call, Mapping) and isinstance(call.get("id"), str)
    }
    if "tool_calls" not in wire or not any(extras.values()):
        return wire
    calls = [add_call_extra(call, extras.get(call["id"], {})) for call in wire["tool_calls"]]
    return {**wire, "tool_calls": calls}
