"""The fields that a model put on its answer and wants to see again in the next request. Pure.

Providers sign tool calls and reasoning: Gemini refuses a tool loop without its ``extra_content``, DeepSeek and Kimi one
without its ``reasoning_content``. Mistral and Groq refuse the fields of another model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SIGNED_FIELDS = (
    "extra_content",
    "provider_specific_fields",
    "reasoning_details",
    "thinking_blocks",
)
"""Fields of an assistant's message that are sent back unchanged."""

REASONING_FIELD = "reasoning_content"
"""Sent back while the results of the tool calls that it led to are answered: see ``find_open_tool_loop``."""

REASONING_FIELDS = (REASONING_FIELD, "reasoning")
"""The two names of reasoning.

It is sent back under the name by which it came: services that write ``reasoning`` (vLLM, OpenRouter, Groq) read no
other.
"""

THINKING_FIELD = "thinking"
"""Where reasoning is kept that came among the parts of the content. No field of a request takes it back."""

_GROWING = {"reasoning.summary": "summary", "reasoning.text": "text", "thinking": "thinking"}
"""The parts of signed fields that come in pieces: by type, the key of their text."""

_CALL_FIELDS = {"id", "type", "index", "function", "custom"}
_FUNCTION_FIELDS = {"name", "arguments", "input"}


def read_call_extra(call: Mapping[str, object]) -> dict[str, object]:
    """The unknown fields of a tool call of the API; those of its function are under ``function``.

    >>> read_call_extra({"id": "c1", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": 1}})
    {'extra_content': {'google': 1}}
    """
    extra = {key: value for key, value in call.items() if key not in _CALL_FIELDS}
    function = call.get("function")
    if isinstance(function, Mapping):
        inner = {key: value for key, value in function.items() if key not in _FUNCTION_FIELDS}
        if inner:
            extra["function"] = inner
    return {key: value for key, value in extra.items() if value is not None}


def add_call_extra(call: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, object]:
    """``call`` with the fields that ``read_call_extra`` returned for it."""
    function, inner = call.get("function"), extra.get("function")
    merged = {**call, **{key: value for key, value in extra.items() if key != "function"}}
    if isinstance(function, Mapping) and isinstance(inner, Mapping):
        merged["function"] = {**function, **inner}
    return merged


def join_signed(old: object, new: object) -> object:
    """The value of a signed field after one more delta of a stream.

    Text that came in pieces becomes one part again, with its signature.

    >>> join_signed([{"type": "thinking", "thinking": "h"}], [{"type": "thinking", "thinking": "m", "signature": "S"}])
    [{'type': 'thinking', 'thinking': 'hm', 'signature': 'S'}]
    """
    if isinstance(old, list) and isinstance(new, list):
        if old and new and _continues(old[-1], new[0]):
            return [*old[:-1], _with_piece(old[-1], new[0]), *new[1:]]
        return [*old, *new]
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: join_signed(old.get(key), value) for key, value in new.items()}}
    return old if new is None else new


def _continues(part: object, piece: object) -> bool:
    """Whether ``piece`` belongs to ``part``, the last part so far. A signature ends a part."""
    if not isinstance(part, Mapping) or not isinstance(piece, Mapping):
        return False
    is_same = part.get("type") == piece.get("type") and part.get("index") == piece.get("index")
    return is_same and part.get("type") in _GROWING and not part.get("signature")


def _with_piece(part: Mapping[str, object], piece: Mapping[str, object]) -> dict[str, object]:
    name = _GROWING[str(part["type"])]
    text = "".join(str(some.get(name) or "") for some in (part, piece))
    return {**part, **{key: value for key, value in piece.items() if value}, name: text}


def find_open_tool_loop(roles: Sequence[str]) -> int:
    """Where the tool loop that is being answered begins: the index after the last message of the user.

    ``len(roles)`` if the conversation does not end with the result of a tool.

    >>> find_open_tool_loop(["user", "assistant", "tool"]), find_open_tool_loop(["user", "assistant", "user"])
    (1, 3)
    """
    if not roles or roles[-1] != "tool":
        return len(roles)
    users = [place for place, role in enumerate(roles) if role == "user"]
    return users[-1] + 1 if users else 0


def is_same_model(name: str, other: str) -> bool:
    """Whether two names mean one model. A provider before the name, or a version after it, makes no difference.

    >>> is_same_model("gpt-4o", "openai/gpt-4o-2024-08-06"), is_same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    first, second = name.rpartition("/")[2], other.rpartition("/")[2]
    return is_version_of(first, second) or is_version_of(second, first)


def is_version_of(name: str, model: str) -> bool:
    """Whether ``name`` is ``model`` without its provider, or a version of it.

    >>> is_version_of("gpt-4o-2024-08-06", "openai/gpt-4o"), is_version_of("gpt-4o-mini", "gpt-4o")
    (True, False)
    """
    bare = re.escape(model.rpartition("/")[2])
    return re.fullmatch(rf"{bare}([-@:](\d[\d.-]*|latest|preview))?", name) is not None


def without_signed_fields(messages: object) -> object:
    """``messages`` for another model than the one that they were written for: without signed fields."""
    if not isinstance(messages, (list, tuple)):
        return messages
    return [_strip_signed(m) if isinstance(m, Mapping) else m for m in messages]


def _strip_signed(message: Mapping[str, object]) -> Mapping[str, object]:
    if message.get("role") != "assistant":
        return message
    fields = {k: v for k, v in message.items() if k not in {*SIGNED_FIELDS, *REASONING_FIELDS}}
    calls = fields.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        fields["tool_calls"] = [
            _bare(call) if isinstance(call, Mapping) else call for call in calls
        ]
    return fields


def _bare(call: Mapping[str, object]) -> dict[str, object]:
    fields = {key: value for key, value in call.items() if key in _CALL_FIELDS}
    function = fields.get("function")
    if isinstance(function, Mapping):
        fields["function"] = {k: v for k, v in function.items() if k in _FUNCTION_FIELDS}
    return fields
