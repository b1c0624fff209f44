"""Estimates the tokens of a text or a conversation, without a tokenizer and without a download.

The models behind Lunar have many tokenizers, and before a request is routed nobody knows which one will count. Of two
rules the larger number counts: one is for prose in any script (four bytes of UTF-8 to a token), the other for code and
JSON (one token for each word and each sign). For English prose the estimate is within a few per cent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import to_json

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")

PER_MESSAGE = 4
"""Tokens for the role of a message and its separator."""
PER_MEDIA = {"image_url": 765, "input_audio": 1_000, "file": 1_500, "video_url": 3_000}
"""Tokens by type of part. For an image: one of medium size, as OpenAI counts. The others are guesses."""
PER_IMAGE_OF_LOW_DETAIL = 85


def in_text(text: str) -> int:
    """Estimate the tokens of a text.

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
    """Estimate the tokens of a conversation in the form of the API, with its tools.

    ``count``: returns the tokens of a text.
    """
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
