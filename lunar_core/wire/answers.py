"""(status, headers, body) → a value or an error, for every endpoint and every body that was seen."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lunar_core.errors import APIResponseValidationError, APIStatusError, class_for_status
from lunar_core.wire.completions import ChatCompletion, Completion, RoutedCompletion

MAX_REASON = 2_000
"""Characters of the server's own words that an error text may carry."""

_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "x-correlation-id")

# Without these an answer is no answer. Any other field that the service garbles is dropped (None).
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


def request_id(headers: Mapping[str, str]) -> str | None:
    """The service's own name for the request. ``headers`` must look names up case-insensitively."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def loads(payload: bytes) -> object:
    """JSON, or ValueError: also for nesting, numbers and characters that json alone trips over."""
    try:
        value = json.loads(payload.decode("utf-8-sig", "replace"))
        return _without_surrogates(value) if rb"\ud" in payload or rb"\uD" in payload else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_surrogates(value: object) -> object:
    # Half of a surrogate pair is legal JSON and illegal text: no later encoder would take it.
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    return value


def read_as(kind: type[M], payload: bytes) -> M:
    """``payload`` as a ``kind``; ValueError if it is not one even when optional fields are forgiven."""
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        return forgiving(kind, loads(payload))


def forgiving(kind: type[M], data: object) -> M:
    """Like ``model_validate``, but a garbled field that nobody needs is dropped instead of fatal."""
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # what was sent is wrong, not who called
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
    """Upstreams that send content as parts, or a tool call's arguments as an object, mean the usual form."""
    choices = data.get("choices")
    if choices is None:
        data.pop("choices", None)
    for choice in choices if isinstance(choices, list) else ():
        for holder in ("message", "delta"):
            message = choice.get(holder) if isinstance(choice, dict) else None
            if not isinstance(message, dict):
                if isinstance(choice, dict) and message is None:
                    choice.pop(holder, None)
                continue
            content = message.get("content")
            if isinstance(content, list):
                texts = [part.get("text") for part in content if isinstance(part, dict)]
                message["content"] = "".join(text for text in texts if isinstance(text, str))
            calls = message.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict):
                    _mend_function(function)


def _mend_function(function: dict[str, object]) -> None:
    for name in ("name", "arguments"):
        if function.get(name) is None:
            function.pop(name, None)
    if isinstance(function.get("arguments"), (dict, list)):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)


def read_chat(payload: bytes) -> ChatCompletion:
    return _with_choices(read_as(ChatCompletion, payload))


def read_text(payload: bytes) -> Completion:
    return _with_choices(read_as(Completion, payload))


def read_routed(payload: bytes) -> RoutedCompletion:
    """An executed route: it has choices."""
    return _with_choices(read_as(RoutedCompletion, payload))


def read_decision(payload: bytes) -> RoutedCompletion:
    """``execute: false``: ``routing``, or the decision at the top level (observed); no choices needed."""
    answer = read_as(RoutedCompletion, payload)
    extra = answer.model_extra or {}
    if answer.routing is None and "selected_model" in extra:
        data = loads(payload)
        answer = forgiving(RoutedCompletion, {**answer.model_dump(), "routing": data})
    if answer.routing is None:
        raise ValueError("there is no routing decision")
    return answer


_C = TypeVar("_C", ChatCompletion, Completion, RoutedCompletion)


def _with_choices(answer: _C) -> _C:
    if not answer.choices:
        raise ValueError("there are no choices")
    return answer


def is_meant_whole(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer without a body was meant as a document, and not as a stream of nothing."""
    kind = (headers.get("content-type") or "").lower()
    return status == 204 or "json" in kind


def status_error(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float
) -> APIStatusError:
    """The typed error of a status that is not 2xx. ``now``: seconds since the epoch."""
    decoded = error_body(body)
    reason = reason_in(decoded) or "the service gave no reason"
    if 300 <= status < 400:
        where = (headers.get("location") or "nowhere")[:MAX_REASON]
        reason = f"redirects are not followed, and this one leads to {where}"
    error = class_for_status(status)(
        f"{status}: {reason}", status_code=status, request_id=request_id(headers), body=decoded
    )
    error.retry_after = retry_after(headers, decoded, now=now)
    return error


def not_the_answer(
    status: int, headers: Mapping[str, str], body: bytes, why: str
) -> APIResponseValidationError:
    """The error of a 200 that is not what was asked for. It shows what it was instead."""
    decoded = error_body(body)
    stated = reason_in(decoded) if isinstance(decoded, dict) else None
    shown = stated or repr(body[:200].decode("utf-8", "replace"))
    kind = (headers.get("content-type") or "no content type")[:100]
    return APIResponseValidationError(
        f"status {status} ({kind}) is not the answer that was asked for: {why}: {shown}",
        status_code=status,
        request_id=request_id(headers),
        body=decoded,
    )


def error_body(body: bytes) -> object:
    """What an error says: decoded JSON, or its text. Nested deep it stays text: nobody can walk or pickle that."""
    try:
        value = loads(body) if body else ""
    except ValueError:
        return body.decode("utf-8", "replace")
    return value if _is_shallow(value) else body.decode("utf-8", "replace")


def _is_shallow(value: object, levels: int = 50) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def reason_in(body: object) -> str | None:
    """The server's reason, from any of the bodies that were seen; at most 2,000 characters."""
    text = _reason(body)
    if not text:
        return None
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _reason(body: object) -> str:
    if isinstance(body, str):
        return _readable(body)
    if not isinstance(body, Mapping):
        return ""
    for name in ("detail", "error", "message", "msg", "title"):
        found = body.get(name)
        if isinstance(found, str) and found.strip():
            return found.strip()
        if isinstance(found, list):
            return "; ".join(filter(None, map(_field_fault, found)))
        if isinstance(found, Mapping):
            inner = _reason(found)
            if inner:
                return _with_code(inner, found)
    return ""


def _field_fault(item: object) -> str:
    """One entry of FastAPI's 422 list: ``body.messages: field required``."""
    if not isinstance(item, Mapping):
        return str(item)
    where, what = item.get("loc"), item.get("msg") or item.get("message") or ""
    place = ".".join(map(str, where)) if isinstance(where, (list, tuple)) else ""
    return f"{place}: {what}" if place else str(what)


def _with_code(reason: str, body: Mapping[str, object]) -> str:
    code = body.get("code")
    return f"{reason} ({code})" if isinstance(code, str) and code and code not in reason else reason


def _readable(text: str) -> str:
    """Text, or the words of an HTML page."""
    if "<" in text and re.search(
        r"<(!doctype|html|head|body|title|h1)\b", text[:1000], re.IGNORECASE
    ):
        text = re.sub(
            r"<(script|style)\b.*?</\1>|<[^>]*>",
            " ",
            text[:20_000],
            flags=re.IGNORECASE | re.DOTALL,
        )
    return " ".join(text.split())


def retry_after(headers: Mapping[str, str], body: object, *, now: float) -> float | None:
    """Seconds that the service asked to wait: a header in ms, seconds or as a date, or a field of the body."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    header = headers.get("retry-after")
    waits = [_seconds(header), _until(header, now)]
    for place in (
        (body, *(body.get(k) for k in ("detail", "error"))) if isinstance(body, Mapping) else ()
    ):
        if isinstance(place, Mapping):
            waits += [_seconds(place.get("retry_after")), _seconds(place.get("retry_after_s"))]
    return next((wait for wait in waits if wait is not None), None)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(header: str | None, now: float) -> float | None:
    try:
        when = parsedate_to_datetime(header or "").timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, when - now)
