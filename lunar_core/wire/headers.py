"""Reads a response's headers: the request id, how long to wait, whether a document was to follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "x-correlation-id")


def read_request_id(headers: Mapping[str, str]) -> str | None:
    """The service's id of the request. ``headers`` must look names up case-insensitively."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def is_meant_whole(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a response without a body was meant as a document, not as an empty stream."""
    kind = (headers.get("content-type") or "").lower()
    return status == 204 or "json" in kind


def read_retry_after(headers: Mapping[str, str], body: object, *, now: float) -> float | None:
    """Seconds that the service asks to wait: from a header (ms, seconds or a date) or a field of the body."""
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
