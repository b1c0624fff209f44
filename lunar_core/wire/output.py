"""Whether the JSON that a model wrote, an object or a tool call's arguments, came whole. Judged once, at its end.

While an answer streams, what has come of it may be shown as it is. Once it has ended, half an object is no object:
a tool must not run with half its arguments, and a list that was cut off must not look complete.
"""

from __future__ import annotations

import json

from pydantic_core import from_json

from lunar_core.errors import OutputTruncatedError
from lunar_core.wire.finish_reasons import is_token_limit
from lunar_core.wire.text import join_all_surrogates

SHOWN = 500
"""Characters of a truncated output that its error shows."""


def parse_tool_arguments(
    text: str | None, *, finish_reason: str | None = None
) -> dict[str, object] | None:
    """The arguments as a dict; None where they are no whole JSON object. {} for none, unless they were cut off."""
    if text is None or not text.strip():
        return None if is_token_limit(finish_reason) else {}
    try:
        value = _parse_whole(text)
    except ValueError:
        return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def parse_json_output(
    text: str | None, *, finish_reason: str | None = None, token_limit: int | None = None
) -> object:
    """The value that ``text`` is. OutputTruncatedError if it did not come whole, ValueError if it is no JSON."""
    try:
        return _parse_whole(text or "")
    except ValueError:
        if is_token_limit(finish_reason) or is_cut_off(text or ""):
            raise make_truncated_error(
                text or "", finish_reason=finish_reason, token_limit=token_limit
            ) from None
        raise


def is_cut_off(text: str) -> bool:
    """Whether ``text`` is the beginning of JSON: it ends before its value does."""
    if not text.strip().startswith(("{", "[")):
        return False
    try:
        _parse_whole(text)
    except json.JSONDecodeError as error:
        if "delimiter" in error.msg and error.pos < len(text.rstrip()):
            return False  # a wrong bracket, say, and not the end
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
    """The error of an output that did not come whole. It names the token limit, the finish_reason and what came."""
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
    """JSON, strict but for line breaks inside strings, which models write and which change nothing."""
    try:
        value = json.loads(text, strict=False)
        return join_all_surrogates(value) if "\\u" in text else value
    except RecursionError:
        raise ValueError("nested too deeply") from None
