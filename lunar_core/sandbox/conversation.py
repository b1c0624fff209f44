"""Reads a conversation: its last prompt, its parts, its tokens and how many are cached."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.usage import PER_MESSAGE, PER_PART, count

if TYPE_CHECKING:
    from lunar_core.sandbox.answers import Messages


def read_parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the parts of a message; none if its content is a text."""
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


def since(role: str, messages: Messages) -> Messages:
    """Return the messages after the last one of a role."""
    reverse = itertools.takewhile(lambda message: message["role"] != role, reversed(messages))
    return list(reverse)[::-1]


def attachments(messages: Messages) -> str:
    """Say how many images, files and sounds came since the last answer."""
    kinds = [
        part["type"] for message in since("assistant", messages) for part in read_parts(message)
    ]
    names = {"image_url": "image", "file": "file", "input_audio": "sound"}
    counts = [(kinds.count(kind), name) for kind, name in names.items()]
    return " and ".join(f"{n} {name}{'s' * (n > 1)}" for n, name in counts if n)


def prompt_tokens(messages: Messages, options: Mapping[str, Any] | None = None) -> int:
    """Count the tokens of messages, and of the tools and the schema that go with them."""
    total = 0
    for message in messages:
        total += PER_MESSAGE + count(read_text(message))
        total += sum(PER_PART.get(part["type"], 0) for part in read_parts(message))
        for call in message.get("tool_calls") or ():
            total += 1 + count(call["function"]["arguments"])
    extras = [(options or {}).get(name) for name in ("tools", "response_format")]
    return total + sum(count(json.dumps(extra)) for extra in extras if extra)


class PrefixCache:
    """Remembers prompts that were marked with ``cache_control``, as a provider's cache does.

    The prefix up to the last mark is cached when the same session sent the same prefix to the
    same model before.
    """

    def __init__(self) -> None:
        self._prefixes: set[bytes] = set()

    def count_cached(self, session: str, model: str, messages: Messages) -> int:
        """Return how many tokens of these messages are cached, and remember them."""
        parts = [(message, *read_parts(message)) for message in messages]
        marks = [i for i, p in enumerate(parts, 1) if any(part.get("cache_control") for part in p)]
        if not marks:
            return 0
        prefix = messages[: marks[-1]]
        text = json.dumps([session, model, prefix], sort_keys=True)
        key = hashlib.sha256(text.encode()).digest()
        is_cached = key in self._prefixes
        self._prefixes.add(key)
        return prompt_tokens(prefix) if is_cached else 0
