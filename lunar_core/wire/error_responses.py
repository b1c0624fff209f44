"""Makes an error of (status, headers, body). Reads every form of error body that was observed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lunar_core.errors import (
    AnswerFailedError,
    APIResponseValidationError,
    APIStatusError,
    RateLimitError,
    class_for_status,
)
from lunar_core.types.completions import ChatCompletion
from lunar_core.types.upstream import UpstreamFailure
from lunar_core.wire.finish_reasons import is_failure
from lunar_core.wire.headers import read_request_id, read_retry_after
from lunar_core.wire.parsing import parse_json, validate_leniently
from lunar_core.wire.upstream import read_upstream

MAX_REASON = 2_000
"""How many characters of the service's own message an error may quote."""


def make_status_error(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float
) -> APIStatusError:
    """The error for a status that is not 2xx. ``now``: seconds since the epoch, for a ``retry-after`` date."""
    decoded = parse_error_body(body)
    reason = find_reason(decoded) or _no_reason(decoded, body)
    if 300 <= status < 400:
        where = (headers.get("location") or "nowhere")[:MAX_REASON]
        reason = f"redirects are not followed, and this one leads to {where}"
    upstream = read_upstream(reason) if status == 502 else None
    kind = RateLimitError if _is_rate_limit(upstream) else class_for_status(status)
    error = kind(
        f"{status}: {reason}", status_code=status, request_id=read_request_id(headers), body=decoded
    )
    error.upstream = upstream
    error.retry_after = read_retry_after(headers, decoded, now=now)
    return error


def _first_bytes(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")


def _no_reason(decoded: object, body: bytes) -> str:
    """What stands where none of the known fields has a reason: the body's first bytes, if it holds anything."""
    if isinstance(decoded, (dict, list)) and any(
        decoded.values() if isinstance(decoded, dict) else decoded
    ):
        return f"the service gave no reason that is known, but this: {_first_bytes(body)}"
    return "the service gave no reason"


def make_answer_error(
    status: int, headers: Mapping[str, str], body: bytes, why: str
) -> APIResponseValidationError:
    """The error for a response of status 2xx that does not answer the request.

    ``why``: what is wrong with it. The error quotes the response, and keeps the usage that it states.
    """
    decoded = parse_error_body(body)
    stated = find_reason(decoded) if isinstance(decoded, dict) else None
    shown = stated or repr(_first_bytes(body))
    kind = (headers.get("content-type") or "no content type")[:100]
    text = f"status {status} ({kind}) is not the answer that was asked for: {why}: {shown}"
    failed = find_failure(decoded) is not None
    error = AnswerFailedError(text) if failed else APIResponseValidationError(text)
    error.status_code = (_code_in(decoded) if failed else None) or status
    error.request_id = read_request_id(headers)
    error.body = decoded
    error.partial = _stated_usage(decoded)
    return error


def _stated_usage(decoded: object) -> ChatCompletion | None:
    """A completion with nothing but the usage that the service states beside a failure; None if it states none."""
    usage = decoded.get("usage") if isinstance(decoded, dict) else None
    if not isinstance(usage, dict):
        return None
    return validate_leniently(ChatCompletion, {"choices": [], "usage": dict(usage)})


# A failure that is stated under status 200, in an answer or in an event of a stream


def find_failure(data: object) -> Mapping[str, object] | None:
    """The failure that an answer or event states: at the top level, beside the choices or in a choice; else None.

    ``detail`` counts as a failure only if there are no choices. An ``error`` whose fields are all empty is none: some
    gateways put one beside every answer.
    """
    if not isinstance(data, Mapping):
        return None
    choices = data.get("choices")
    if _states_error(data) or data.get("object") == "error" or ("detail" in data and not choices):
        return data
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping):
            if _states_error(choice):
                return {"error": choice["error"]}
            reason = choice.get("finish_reason")
            if is_failure(reason):
                return {"error": f"it gave no reason but finish_reason {reason!r}"}
    return None


def _states_error(holder: Mapping[str, object]) -> bool:
    error = holder.get("error")
    return any(error.values()) if isinstance(error, Mapping) else bool(error)


def make_failure_error(
    payload: bytes, *, words: str = "the service answered with a failure"
) -> AnswerFailedError | RateLimitError:
    """The error for such a failure, with the status code that it states. ``words`` begin its message."""
    decoded = parse_error_body(payload)
    failure = find_failure(decoded) or decoded
    reason = find_reason(failure) or "the service gave no reason"
    code = _code_in(failure)
    upstream = read_upstream(reason) if code in (None, 502) else None
    kind = RateLimitError if _is_rate_limit(upstream) else AnswerFailedError
    error = kind(f"{words}: {reason}", status_code=code, body=decoded)
    error.upstream = upstream
    return error


def _is_rate_limit(upstream: UpstreamFailure | None) -> bool:
    """Whether the provider's own rate limit was the cause. No other failure of its changes the error's class."""
    return upstream is not None and upstream.kind == "rate_limit"


def _code_in(failure: object) -> int | None:
    inner = failure.get("error") if isinstance(failure, Mapping) else None
    for place in (failure, inner):
        for name in ("status_code", "status", "code"):
            code = place.get(name) if isinstance(place, Mapping) else None
            code = (
                int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
            )
            if isinstance(code, int) and 400 <= code <= 599:
                return code
    return None


def parse_error_body(body: bytes) -> object:
    """An error's body as decoded JSON, or else as text.

    JSON of more than 50 levels stays text, because it could not be pickled.
    """
    try:
        value = parse_json(body) if body else ""
    except ValueError:
        return body.decode("utf-8", "replace")
    return value if _is_shallow(value) else body.decode("utf-8", "replace")


def _is_shallow(value: object, levels: int = 50) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def find_reason(body: object) -> str | None:
    """The service's reason, from any form of body that was observed; at most 2,000 characters."""
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
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, list):
            return "; ".join(filter(None, map(_field_fault, value)))
        if isinstance(value, Mapping):
            inner = _reason(value)
            if inner:
                return _with_code(_with_profiles(inner, value), value)
    return ""


def _field_fault(item: object) -> str:
    """One entry of FastAPI's list in a 422, such as ``body.messages: field required``."""
    if not isinstance(item, Mapping):
        return str(item)
    where, what = item.get("loc"), item.get("msg") or item.get("message") or ""
    place = ".".join(map(str, where)) if isinstance(where, (list, tuple)) else ""
    return f"{place}: {what}" if place else str(what)


def _with_profiles(reason: str, body: Mapping[str, object]) -> str:
    """``reason`` with the models that have no routing profile and those that have one (``MISSING_PROFILES``)."""
    missing, available = (
        _names(body.get(f"{which}_profiles")) for which in ("missing", "available")
    )
    if missing and missing not in reason:
        reason = f"{reason}: {missing}"
    return f"{reason}; there are profiles of {available}" if available else reason


def _names(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""


def _with_code(reason: str, body: Mapping[str, object]) -> str:
    code = body.get("code")
    return f"{reason} ({code})" if isinstance(code, str) and code and code not in reason else reason


def _readable(text: str) -> str:
    """``text`` on one line; of an HTML page, its words."""
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
