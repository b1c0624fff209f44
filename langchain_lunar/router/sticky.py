"""Finds the model that a routed conversation stays with. Pure; the rule itself is ``lunar_core.routing``'s."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from lunar_core import routing
from lunar_core.routing import Sticky
from lunar_core.wire.replay import is_version_of


def find_sticky_model(messages: Sequence[BaseMessage], sticky: Sticky) -> str | None:
    """The model that answered last and must answer again, or None to let the router choose."""
    answer = find_sticky_answer(messages, sticky)
    return None if answer is None else writer_of(answer)


def find_sticky_answer(messages: Sequence[BaseMessage], sticky: Sticky) -> AIMessage | None:
    """The answer whose model must answer again (see ``lunar_core.routing.find_sticky_answer``)."""
    answer = routing.find_sticky_answer([_turn(message) for message in messages], sticky)
    message = answer["message"] if answer is not None else None
    return message if isinstance(message, AIMessage) else None


def writer_of(message: AIMessage) -> str | None:
    """The model that wrote a message, under Lunar's name for it.

    None if another vendor's class made the message, or if it names no model.
    """
    metadata = message.response_metadata
    name = metadata.get("model_name")
    if not isinstance(name, str) or metadata.get("model_provider", "lunar") != "lunar":
        return None
    routing_ = metadata.get("routing") or {}
    requested = routing_.get("selected_model", metadata.get("requested_model"))
    if isinstance(requested, str) and is_version_of(name, requested):
        return requested or None
    return name or None


def _turn(message: BaseMessage) -> dict[str, object]:
    """The parts of a message that the rule needs, in the form of the API, and the message itself."""
    if isinstance(message, AIMessage):
        return {"role": "assistant", "tool_calls": message.tool_calls, "message": message}
    return {"role": "tool" if isinstance(message, ToolMessage) else "user"}
