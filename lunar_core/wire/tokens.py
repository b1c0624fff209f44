"""How many tokens a text or a conversation may take: an estimate, without a tokenizer and without a download.

The models behind Lunar have many tokenizers, and a routed request does not know yet which one will count. Of the two
rules used here one holds for prose in any script (four bytes of UTF-8 to a token), the other for code and JSON
(each word and each sign is one); the larger number counts. For English prose it is within a few per cent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import to_json

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")

PER_MESSAGE = 4
"""Its role and what separates it from the next."""
PER_MEDIA = {"image_url": 765, "input_audio": 1_000, "file": 1_500, "video_url": 3_000}
"""By type of part. An image of middling size in OpenAI's reckoning; the others cannot be told from outside."""
PER_IMAGE_OF_LOW_DETAIL = 85


def in_text(text: str) -> int:
    """Tokens of a text.

    >>> in_text("The quick brown fox jumps over the lazy dog.")
    11
    """
    if not text:
        return 0
    return max(-(-len(text.encode("utf-8", "replace")) // 4), len(_WORD_OR_SIGN.findall(text)))


def in_messages(
    messages: Iterable[Mapping[str, Any]],
    tools: Iterable[Mapping[str, Any]] = (),
    *,
    count: Callable[[str], int] = in_text,
) -> int:
    """Tokens of a conversation in the form of the API, with the tools that go with it. ``count``: those of a text."""
    written = sum(count(to_json(tool).decode()) for tool in tools)
    return written + sum(_in_message(message, count) for message in messages)


def _in_message(message: Mapping[str, Any], count: Callable[[str], int]) -> int:
    content = message.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    texts = [message.get("name") or ""]
    texts += [text for function in functions for text in (function["name"], function["arguments"])]
    return PER_MESSAGE + sum(map(count, texts)) + sum(_in_part(part, count) for part in parts)


def _in_part(part: Mapping[str, Any], count: Callable[[str], int]) -> int:
    kind = str(part.get("type"))
    if kind == "image_url" and (part.get("image_url") or {}).get("detail") == "low":
        return PER_IMAGE_OF_LOW_DETAIL
    if kind in PER_MEDIA:
        return PER_MEDIA[kind]
    text = part.get("text") or part.get("refusal")
    return count(text if isinstance(text, str) else to_json(part).decode())
