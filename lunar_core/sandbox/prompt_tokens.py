"""The tokens of a prompt: how many there are, and how many of them come from a cache."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.conversation import read_parts, read_text
from lunar_core.sandbox.usage import PER_MESSAGE, PER_PART, count

if TYPE_CHECKING:
    from lunar_core.sandbox.answers import Messages


@dataclass
class PrefixCache:
    """Remembers prompts that were marked with ``cache_control``, as a provider's cache does.

    The prefix up to the last mark is cached when the same session sent the same prefix to the
    same model before.
    """

    size: int = 10_000
    _seen: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def cached(self, session: str, model: str, messages: Messages) -> int:
        """Return how many tokens of these messages are cached, and remember them."""
        marked = [
            i
            for i, message in enumerate(messages)
            if any(part.get("cache_control") for part in (message, *read_parts(message)))
        ]
        if not marked:
            return 0
        prefix = messages[: marked[-1] + 1]
        text = json.dumps([session, model, prefix], sort_keys=True).encode()
        key = hashlib.sha256(text).digest()
        is_cached = key in self._seen
        self._seen[key] = None
        if len(self._seen) > self.size:
            self._seen.popitem(last=False)
        return prompt_tokens(prefix) if is_cached else 0


def prompt_tokens(messages: Messages, options: Mapping[str, Any] | None = None) -> int:
    """Count the tokens of messages, and of the tools and the schema that go with them."""
    total = 0
    for message in messages:
        total += PER_MESSAGE + count(read_text(message))
        total += sum(PER_PART.get(part["type"], 0) for part in read_parts(message))
        for call in message.get("tool_calls") or ():
            total += 1 + count(call["function"]["arguments"])
    for name in ("tools", "response_format"):
        if options and options.get(name):
            total += count(json.dumps(options[name]))
    return total
