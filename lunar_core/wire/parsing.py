"""Parses JSON into our models. Forgives what is not essential, and the habits of upstreams."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lunar_core.wire.content_parts import read_text, read_thinking
from lunar_core.wire.replay import THINKING_FIELD
from lunar_core.wire.text import join_all_surrogates
from lunar_core.wire.tool_calls import as_calls, as_text

# Without these an answer is useless. Any other field in a wrong form is dropped, and becomes None.
_ESSENTIAL = {
    "choices",
    "message",
    "delta",
    "content",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
}

M = TypeVar("M", bound=BaseModel)


LEAST_LOGPROB = -9999.0
"""The number that OpenAI writes for -Infinity, the log of a probability of 0: JSON has no infinity."""

_NUMBERS = {"-Infinity": LEAST_LOGPROB}
"""Values for constants that JSON does not have. NaN and Infinity become None."""


def has_odd_numbers(payload: bytes) -> bool:
    """Whether ``payload`` may hold NaN or an infinity, which strict JSON readers refuse."""
    return payload.rfind(b"Infinity") >= 0 or payload.rfind(b"NaN") >= 0  # twice as fast as "in"


def parse_json(payload: bytes) -> object:
    """Parse JSON. Raises ValueError, also for nesting that is too deep. Replaces invalid characters."""
    try:
        text = payload.decode("utf-8-sig", "replace")
        value = json.loads(text, parse_constant=_NUMBERS.get)
        # A lone surrogate is legal in JSON, but no later encoder would take it.
        return join_all_surrogates(value) if rb"\ud" in payload or rb"\uD" in payload else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_as(kind: type[M], payload: bytes) -> M:
    """Parse ``payload`` into a ``kind``. Raises ValueError if it is not one, even leniently validated."""
    try:
        if not has_odd_numbers(payload):
            return kind.model_validate_json(payload)
    except ValidationError:
        pass
    return validate_leniently(kind, parse_json(payload))


def validate_leniently(kind: type[M], data: object) -> M:
    """Like ``model_validate``, but drops a field in a wrong form if it is not essential.

    Changes ``data``. Raises ValueError that names an essential field in a wrong form.
    """
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # the service's data is wrong, not the caller's type
    _mend_habits(data)
    while True:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            faults = [f["loc"][:-1] if f["type"] == "missing" else f["loc"] for f in error.errors()]
        for where in faults:
            if not _forget(data, where):
                raise ValueError(
                    f"{'.'.join(map(str, where)) or 'a field'} is missing or has the wrong form"
                )


def _forget(data: object, where: tuple[int | str, ...]) -> bool:
    """Remove the field at ``where`` from ``data``. Returns False if that field is essential."""
    names = [step for step in where if isinstance(step, str)]
    if not names or names[-1] in _ESSENTIAL:
        return False
    for step in where:
        if step == names[-1] and isinstance(data, dict):
            data.pop(step, None)
            return True
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return False


def _mend_habits(data: dict[str, object]) -> None:
    """Put content that came as parts, and arguments that came as an object, into the usual form."""
    choices = data.get("choices")
    if choices is None:
        data.pop("choices", None)
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("text") is None:
            choice.pop("text", None)
        for holder in ("message", "delta"):
            message = choice.get(holder) if isinstance(choice, dict) else None
            if not isinstance(message, dict):
                if isinstance(choice, dict) and message is None:
                    choice.pop(holder, None)
                continue
            _mend_message(message)


def _mend_message(message: dict[str, object]) -> None:
    content = message.get("content")
    if isinstance(content, list) or (isinstance(content, dict) and "text" in content):
        message["content"] = read_text(content)
        if thinking := read_thinking(content):
            message.setdefault(THINKING_FIELD, thinking)
    calls = as_calls(message.get("tool_calls"))
    for call in calls:
        _mend_body(call, "function", "arguments")
        _mend_body(call, "custom", "input")
    if calls:
        message["tool_calls"] = calls
    elif message.get("content"):  # else an odd value stays, and is refused: nothing was said
        message.pop("tool_calls", None)


def _mend_body(call: dict[str, object], holder: str, text: str) -> None:
    """Put the function, or the custom call, of a tool call into the usual form. What is none is removed."""
    body = call.get(holder)
    if not isinstance(body, dict):
        call.pop(holder, None)
        return
    if not isinstance(body.get("name"), (str, int)):
        body.pop("name", None)
    if body.get(text) is None:
        body.pop(text, None)
    else:
        body[text] = as_text(body[text])
