"""Which model a routed conversation stays with. Pure."""

from __future__ import annotations

import re
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
    if not isinstance(name, str) or metadata.get("model_provider", "lunar") != "lunar":
        return None
    asked = (metadata.get("routing") or {}).get("selected_model", metadata.get("requested_model"))
    return (asked if _is_version_of(name, asked) else name) or None


def _is_version_of(name: str, asked: object) -> bool:
    """Whether a provider answered as ``gpt-4o-2024-08-06`` what Lunar knows, and asked, as ``gpt-4o``."""
    if not isinstance(asked, str):
        return False
    known = re.escape(asked.rpartition("/")[2])
    return re.fullmatch(rf"{known}([-@:](\d[\d.-]*|latest|preview))?", name) is not None
