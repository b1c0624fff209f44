"""Content as a list of parts, as Mistral and others send it, in messages and in deltas. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def read_text(content: object) -> str:
    """The text of ``content``: a string, a part, or a list of either. "" if it has none.

    >>> read_text([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}, " you"])
    'Hi you'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(read_text, content))
    if isinstance(content, Mapping):
        text = content.get("text")
        return text if isinstance(text, str) else ""
    is_number = isinstance(content, (int, float)) and not isinstance(content, bool)
    return str(content) if is_number else ""


def read_thinking(content: object) -> str:
    """The reasoning in parts of type "thinking", which hold text or parts of their own.

    >>> read_thinking([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "Hi"])
    'hm'
    """
    parts = content if isinstance(content, list) else [content]
    return "".join(
        read_text(part.get("thinking"))
        for part in parts
        if isinstance(part, Mapping) and part.get("type") == "thinking"
    )
