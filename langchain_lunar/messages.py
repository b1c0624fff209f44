"""Turns LangChain's messages into the API's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal

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
from langchain_core.messages.tool import tool_call

from langchain_lunar.content import Part, to_assistant_content, to_content, to_countable_content
from langchain_lunar.incomplete_calls import remove_wrong_bracket
from langchain_lunar.router.sticky import writer_of
from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.wire.replay import (
    REASONING_FIELD,
    REASONING_FIELDS,
    SIGNED_FIELDS,
    add_call_extra,
    find_open_tool_loop,
    is_same_model,
)
from lunar_core.wire.tool_results import match_results

ReplayReasoning = Literal["tools", "never", "always"]

CALL_EXTRAS = "tool_call_extras"
"""The key of ``additional_kwargs`` with the unknown fields of the message's tool calls, by id."""

REASONING_NAME = "reasoning_field"
"""The key of ``response_metadata`` with the name by which the reasoning came, if not ``reasoning_content``."""

CUSTOM_ARGUMENT = "__arg1"
"""The one argument in which LangChain gives a tool its free text."""


def to_wire(
    messages: Sequence[BaseMessage],
    *,
    model: str | None = None,
    replay_reasoning: ReplayReasoning = "tools",
) -> list[Part]:
    """A conversation as ``messages`` of the API. Raises ConfigurationError that names the message that it cannot carry.

    ``model``: the model that will read it; fields that another model has signed are left out. ``replay_reasoning``:
    which assistant turns include their reasoning; "tools": those of the tool loop that is being answered.
    """
    loop_start = find_open_tool_loop([_role_of(message) for message in messages])
    unsendable = {call["id"] or "" for call in _calls_of(messages) if not _can_be_sent(call)}
    turns: list[Part] = []
    for place, message in enumerate(messages):
        if isinstance(message, ToolMessage) and message.tool_call_id in unsendable:
            continue
        try:
            is_answer = isinstance(message, AIMessage)
            answered = frozenset(_answered_ids(messages[place + 1 :]) if is_answer else ())
            message_turns = list(_turns(message, f"messages[{place}]", answered))
        except ConfigurationError as error:
            raise _with_place(error, f"messages[{place}]") from None
        if isinstance(message, AIMessage) and _is_for_writer(message, model):
            has_reasoning = replay_reasoning == "always" or (
                replay_reasoning == "tools" and place >= loop_start
            )
            message_turns = [
                _add_signed_fields(message, message_turns[0], has_reasoning=has_reasoning)
            ]
        turns += message_turns
    return match_results(turns)


def to_countable(messages: Sequence[BaseMessage]) -> list[Part]:
    """The same for counting tokens: media that cannot be sent are counted too."""
    countable = [
        message.model_copy(update={"content": to_countable_content(message.content)})
        for message in messages
    ]
    return to_wire(countable, replay_reasoning="never")


def _turns(message: BaseMessage, place: str, answered: AbstractSet[str]) -> Iterator[Part]:
    """The turns of one message: mostly one.

    A user message in Anthropic's style may hold results of tools, each a turn. ``answered``: the ids of the tool calls
    that have a result.
    """
    if isinstance(message, AIMessage):
        yield _assistant(message, place, answered)
    elif isinstance(message, ToolMessage):
        yield _tool(message.tool_call_id, message.content)
    elif isinstance(message, HumanMessage):
        yield from _user(message)
    elif isinstance(message, SystemMessage):
        yield _make_turn(message, message.additional_kwargs.get("__openai_role__", "system"))
    elif isinstance(message, ChatMessage):
        yield _make_turn(message, message.role)
    elif isinstance(message, FunctionMessage):
        yield _make_turn(message, "function")
    else:
        raise ConfigurationError(f"a {type(message).__name__} cannot be sent to a model")


def _role_of(message: BaseMessage) -> str:
    for kind, role in ((AIMessage, "assistant"), (ToolMessage, "tool"), (HumanMessage, "user")):
        if isinstance(message, kind):
            return role
    return "system"


def _with_place(error: ConfigurationError, place: str) -> ConfigurationError:
    has_place = error.message.startswith("messages[")
    return error if has_place else ConfigurationError(f"{place}: {error.message}")


def _make_turn(message: BaseMessage, role: str) -> Part:
    turn: Part = {"role": role, "content": to_content(message.content)}
    if message.name:
        turn["name"] = message.name
    return turn


def _tool(call_id: str, content: str | Sequence[str | Mapping[str, Any]]) -> Part:
    return {"role": "tool", "tool_call_id": call_id, "content": to_content(content)}


def _user(message: HumanMessage) -> Iterator[Part]:
    content, results = message.content, _results_in(message)
    if not results:
        yield _make_turn(message, "user")
        return
    for result in results:
        yield _tool(str(result.get("tool_use_id")), result.get("content") or "")
    rest = message.model_copy(update={"content": [b for b in content if b not in results]})
    if rest.content:
        yield _make_turn(rest, "user")


def _results_in(message: HumanMessage) -> list[Mapping[str, Any]]:
    """The results of tools in a user message of Anthropic's style."""
    content = message.content if isinstance(message.content, list) else []
    blocks = [block for block in content if isinstance(block, dict)]
    return [block for block in blocks if block.get("type") == "tool_result"]


def _assistant(message: AIMessage, place: str, answered: AbstractSet[str]) -> Part:
    turn: Part = {"role": "assistant", "content": to_assistant_content(message.content)}
    if message.name:
        turn["name"] = message.name
    extras = _extras_of(message)
    calls = [
        _call(call, extras.get(call["id"] or "", {}), place)
        for call in message.tool_calls or _anthropic_calls(message.content)
        if call["name"]
    ]
    # Nothing ran on an invalid call. One that nobody answered is left out: services refuse calls without results.
    calls += [
        _invalid_call(call, extras.get(call["id"] or "", {}))
        for call in message.invalid_tool_calls
        if _can_be_sent(call) and call["id"] in answered
    ]
    if calls:  # content stays "" and not null, which the service was seen to refuse
        turn["tool_calls"] = calls
    for name in ("function_call", "refusal"):
        if message.additional_kwargs.get(name):
            turn[name] = message.additional_kwargs[name]
    return turn


# Tool calls ------------------------------------------------------------------------------------


def _call(call: ToolCall, extra: Mapping[str, Any], place: str) -> Part:
    if extra.get("type") == "custom":
        return _custom_call(call["id"], call["name"], str(call["args"].get(CUSTOM_ARGUMENT, "")))
    where = f"{place}: tool call {call['name']}"
    return _function_call(call["id"], call["name"], bridge.write_arguments(call["args"], where))


def _invalid_call(call: InvalidToolCall, extra: Mapping[str, Any]) -> Part:
    make = _custom_call if extra.get("type") == "custom" else _function_call
    return make(call["id"], call["name"], remove_wrong_bracket(call["args"] or ""))


def _custom_call(call_id: str | None, name: str | None, text: str) -> Part:
    custom = {"name": name or "", "input": text}
    return {"id": call_id or "", "type": "custom", "custom": custom}


def _function_call(call_id: str | None, name: str | None, arguments: str | None) -> Part:
    function = {"name": name or "", "arguments": arguments or "{}"}
    return {"id": call_id or "", "type": "function", "function": function}


def _anthropic_calls(content: str | Sequence[str | Mapping[str, Any]]) -> list[ToolCall]:
    """The tool calls of a message that has them only among its content blocks."""
    return [
        tool_call(name=block["name"], args=block.get("input") or {}, id=block.get("id"))
        for block in content
        if isinstance(block, Mapping) and block.get("type") == "tool_use"
    ]


def _answered_ids(messages: Sequence[BaseMessage]) -> Iterator[str]:
    """The ids of the tool calls that have a result in ``messages``, before the next answer."""
    for message in messages:
        if isinstance(message, AIMessage):
            return
        if isinstance(message, ToolMessage):
            yield message.tool_call_id
        elif isinstance(message, HumanMessage):
            yield from (str(result.get("tool_use_id")) for result in _results_in(message))


def _calls_of(messages: Sequence[BaseMessage]) -> Iterator[ToolCall | InvalidToolCall]:
    for message in messages:
        if isinstance(message, AIMessage):
            yield from message.tool_calls
            yield from message.invalid_tool_calls


def _can_be_sent(call: ToolCall | InvalidToolCall) -> bool:
    """Whether a call has a name and, if it is invalid, an id. Without them no service takes it, or its result."""
    return bool(call["name"] and (call["id"] or call.get("type") == "tool_call"))


# Fields that the model signed ------------------------------------------------------------------


def _extras_of(message: AIMessage) -> Mapping[str, Any]:
    extras = message.additional_kwargs.get(CALL_EXTRAS)
    return extras if isinstance(extras, Mapping) else {}


def _is_for_writer(message: AIMessage, model: str | None) -> bool:
    """Whether ``model`` wrote ``message``. True if either is unknown."""
    writer = writer_of(message)
    return model is None or writer is None or is_same_model(writer, model)


def _add_signed_fields(message: AIMessage, turn: Part, *, has_reasoning: bool) -> Part:
    """``turn`` with the fields that its writer wants to see again."""
    fields = message.additional_kwargs
    signed = {name: fields[name] for name in SIGNED_FIELDS if fields.get(name)}
    name = message.response_metadata.get(REASONING_NAME, REASONING_FIELD)
    if has_reasoning and name in REASONING_FIELDS and fields.get(REASONING_FIELD):
        signed[name] = fields[REASONING_FIELD]
    extras = _extras_of(message)
    if extras and "tool_calls" in turn:
        calls = [add_call_extra(call, extras.get(call["id"], {})) for call in turn["tool_calls"]]
        signed["tool_calls"] = calls
    return {**turn, **signed}
