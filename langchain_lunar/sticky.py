"""Which model a routed conversation stays with. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

Sticky = Literal["off", "tools", "conversation"]


def model_to_stay_with(messages: Sequence[BaseMessage], sticky: Sticky) -> str | None:
    """The model that answered last and shall answer again, or None to let the router choose."""
    answer = answer_to_stay_with(messages, sticky)
    return None if answer is None else _model_of(answer)


def answer_to_stay_with(messages: Sequence[BaseMessage], sticky: Sticky) -> AIMessage | None:
    """The answer whose model shall answer again.

    "tools": as long as the conversation ends with the results of tools that it called, since ids and habits of tool
    calls differ from model to model. "conversation": from its first answer on.
    """
    if sticky == "off":
        return None
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            called = bool(message.tool_calls) and message is not messages[-1]
            return message if called or sticky == "conversation" else None
        if sticky == "tools" and not isinstance(message, ToolMessage):
            return None
    return None


def _model_of(message: AIMessage) -> str | None:
    """None for the answer of another vendor's class: its name for the model is not one of Lunar's."""
    metadata = message.response_metadata
    name = metadata.get("model_name")
    ours = metadata.get("model_provider", "lunar") == "lunar"
    return name if ours and isinstance(name, str) and name else None
