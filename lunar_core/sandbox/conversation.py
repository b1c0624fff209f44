"""What is read of a conversation: its last prompt, its texts, its tool calls and their results."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lunar_core.sandbox.answers import Messages


def read_parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the parts of a message; none where its content is a text."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def read_text(message: Mapping[str, Any]) -> str:
    """Return a message's text, that of its parts line by line."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in read_parts(message) if part["type"] == "text")


def last_prompt(messages: Messages) -> tuple[str, str | None]:
    """Return the text and the name of the last user message (of the last message, without one)."""
    users = [message for message in messages if message["role"] == "user"]
    message = users[-1] if users else messages[-1]
    return read_text(message), message.get("name") if users else None


def last_turn(messages: Messages) -> Messages:
    """Return what came since the last user message."""
    reverse = itertools.takewhile(lambda message: message["role"] != "user", reversed(messages))
    return list(reverse)[::-1]


def past_calls(messages: Messages) -> list[tuple[str, str]]:
    """List the tool calls since the last user message: names, and arguments in one spelling."""
    functions = [
        call["function"] for m in last_turn(messages) for call in m.get("tool_calls") or ()
    ]
    return [(function["name"], same_spelling(function["arguments"])) for function in functions]


def same_spelling(arguments: str) -> str:
    """Write arguments so that two texts of one JSON value are the same text."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments


def tool_results(messages: Messages) -> list[str]:
    """Return the texts of the tool messages at the end."""
    reverse = itertools.takewhile(lambda message: message["role"] == "tool", reversed(messages))
    return [read_text(message) for message in reverse][::-1]


def attachments(messages: Messages) -> str:
    """Say how many images, files and sounds came since the last answer."""
    turn = itertools.takewhile(lambda message: message["role"] != "assistant", reversed(messages))
    kinds = [part["type"] for message in turn for part in read_parts(message)]
    names = {"image_url": "image", "file": "file", "input_audio": "sound"}
    counts = [(kinds.count(kind), name) for kind, name in names.items()]
    return " and ".join(f"{n} {name}{'s' * (n > 1)}" for n, name in counts if n)
