"""Parses the JSON that a model wrote, an object or the arguments of a tool call, and finds out if it is complete.

While an answer streams, its incomplete JSON may be shown. Once it has ended, incomplete JSON is an error: a tool must
not run with half its arguments, and a list that was cut off must not look complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from lunar_core.errors import OutputTruncatedError
from lunar_core.wire.finish_reasons import is_token_limit
from lunar_core.wire.text import join_all_surrogates

SHOWN = 500
"""How many characters of a truncated output its error shows."""


def parse_tool_arguments(
    text: str | None, *, finish_reason: str | None = None
) -> dict[str, object] | None:
    """The arguments as a dict. None if they are not a complete JSON object.

    No text means no arguments, {}; with a ``finish_reason`` of a token limit it means None.
    """
    if text is None or not text.strip():
        return None if is_token_limit(finish_reason) else {}
    try:
        value = _parse_whole(text)
    except ValueError:
        return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def judge_calls(
    calls: Sequence[Mapping[str, Any]], *, finish_reason: str | None = None
) -> list[bool]:
    """Whether each tool call of a finished answer, in the form of the API, is complete. No other call may run.

    A complete call has a name, and a JSON object as its arguments. If the token limit cut the answer off, only its last
    call can lack all arguments, and the free text of its last call can be incomplete.

    >>> call = {"type": "function", "function": {"name": "rm", "arguments": ""}}
    >>> judge_calls([call, call], finish_reason="length")
    [True, False]
    """
    reasons = [None] * (len(calls) - 1) + [finish_reason]
    return [_is_whole(call, reason) for call, reason in zip(calls, reasons, strict=False)]


def _is_whole(call: Mapping[str, Any], finish_reason: str | None) -> bool:
    custom, function = call.get("custom"), call.get("function") or {}
    if not (custom or function).get("name"):
        return False
    if custom:
        return not is_token_limit(finish_reason)
    text = function.get("arguments")
    return parse_tool_arguments(text, finish_reason=finish_reason) is not None


def parse_json_output(
    text: str | None, *, finish_reason: str | None = None, token_limit: int | None = None
) -> object:
    """Parse ``text`` as JSON. Raises OutputTruncatedError if it is incomplete, ValueError if it is no JSON.

    ``token_limit``: the ``max_tokens`` of the request, for the error's message.
    """
    try:
        return _parse_whole(text or "")
    except ValueError:
        if is_token_limit(finish_reason) or is_cut_off(text or ""):
            raise make_truncated_error(
                text or "", finish_reason=finish_reason, token_limit=token_limit
            ) from None
        raise


def is_cut_off(text: str) -> bool:
    """Whether ``text`` is the beginning of a JSON object or array that does not end."""
    if not text.strip().startswith(("{", "[")):
        return False
    try:
        _parse_whole(text)
    except json.JSONDecodeError as error:
        if "delimiter" in error.msg and error.pos < len(text.rstrip()):
            return False  # a wrong bracket, say: it is wrong, and not cut off
    except ValueError:
        pass
    else:
        return False
    try:
        from_json(text, allow_partial=True)
    except ValueError:
        return False
    return True


def make_truncated_error(
    output: str, *, finish_reason: str | None = None, token_limit: int | None = None
) -> OutputTruncatedError:
    """The error for an incomplete output. It names the token limit, the ``finish_reason`` and what came."""
    limit = "the model's own token limit" if token_limit is None else f"max_tokens={token_limit}"
    came = output if len(output) <= SHOWN else output[:SHOWN] + "…"
    return OutputTruncatedError(
        f"the answer ends before its JSON does (finish_reason {finish_reason!r}, {limit}): a higher max_tokens"
        f" may let it come whole. What came: {came!r}",
        output=output,
        finish_reason=finish_reason,
        token_limit=token_limit,
    )


def _parse_whole(text: str) -> object:
    """Parse JSON strictly, except for line breaks inside strings: models write them, and they change nothing."""
    try:
        value = json.loads(text, strict=False)
        return join_all_surrogates(value) if "\\u" in text else value
    except RecursionError:
        raise ValueError("nested too deeply") from None
