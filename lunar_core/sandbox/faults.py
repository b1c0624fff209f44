"""Failures on demand.

A fault is asked for by the header ``x-sandbox-fault: FAULT``, by a suffix of the model
(``gpt-4o-mini!FAULT``, also among a router's ``models``) or by a model of its own
(``fault-FAULT``, answered by ``gpt-4o-mini`` where there is something to answer).

    FAULT = NAME[=VALUE][*TIMES]

``429-header=0.2`` says *wait 0.2 s*; ``hangup-mid=5`` hangs up after five pieces of content (two
unless said, and at least one; an answer that isn't streamed breaks off at half its bytes);
``503*2`` fails the first two times and then works, and starts over after that. Times are counted
per session, fault and ``idempotency-key`` header; without that header, per body, since the
attempts of one call send the same bytes. ``GET /sandbox/faults`` lists ``FAULTS``.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox import provider_errors
from lunar_core.sandbox.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504)
FAULTS: Mapping[str, str] = {
    **{str(status): f"{status} {HTTPStatus(status).phrase}" for status in STATUSES},
    "429": "429; retry_after at the top of the body, VALUE seconds (default 1)",
    "429-body": "the same as 429",
    "429-detail": "429; retry_after in the object `detail`",
    "429-detail-s": "429; retry_after_s in the object `detail`",
    "429-header": "429; a Retry-After header in seconds",
    "429-date": "429; a Retry-After header with an HTTP date",
    "429-ms": "429; a retry-after-ms header",
    "429-plain": '429; {"message": "Too Many Requests"} and no time',
    "STATUS-error": 'any of the statuses; {"error": "…"}',
    "STATUS-error-object": 'any of the statuses; {"error": {"message": "…", "type": "…"}}',
    "STATUS-message": 'any of the statuses; {"message": "…"}',
    "STATUS-object": 'any of the statuses; {"detail": {"error": "…", "code": "…"}}',
    "STATUS-list": "any of the statuses; FastAPI's list of {type, loc, msg, input}",
    "STATUS-html": "any of the statuses; a proxy's HTML page",
    "STATUS-empty": "any of the statuses; no body",
    "context-length": "what the dialect says of a prompt that is too long: 400, or a 502 around it",
    **{
        f"502-{kind}": f"502 with what the backend says of a provider's own failure: {kind}"
        for kind in provider_errors.KINDS
    },
    "fail-twice": "the same as 503*2: fail twice, then work",
    "slow": "work, after VALUE seconds (default 1)",
    "hang": "accept the request and never answer",
    "hang-mid": "stop in the middle and keep the connection open",
    "hangup": "close the connection before any byte",
    "hangup-mid": "close the connection in the middle",
    "reset": "reset the connection (RST) before any byte",
    "reset-mid": "reset the connection in the middle",
    "error-first": '200, then an error event {"error": …} before any content',
    "error-mid": '200, then an error event {"error": …} in the middle',
    "detail-first": '200, then an error event {"detail": …} before any content',
    "detail-mid": '200, then an error event {"detail": …} in the middle',
    "html": "200 with a proxy's HTML page",
    "empty": "200 without a body",
    "truncated": "200 with half of the JSON (in a stream: half of a chunk at the end)",
    "malformed": "200 with a chunk that is no JSON in the middle of a stream",
    "no-choices": "200 with {} instead of a completion",
    "cut-mid": "end the stream in the middle, without finish_reason and [DONE]",
    "no-done": "end the stream without [DONE]",
}

_SPEC = re.compile(r"([a-z0-9-]+)(?:=(\d+(?:\.\d+)?))?(?:\*(\d+))?")
_STATUS = re.compile(rf"({'|'.join(map(str, STATUSES))})(?:-(.+))?")
_FORMS = ("error", "error-object", "message", "object", "list", "html", "empty")
_WAITS = ("", "body", "detail", "detail-s", "header", "date", "ms")
_HTML = "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """A failure that a request asked for."""

    spec: str
    name: str
    value: float | None
    times: int | None

    @property
    def status(self) -> int | None:
        """The HTTP status, for faults that are one."""
        match = _STATUS.fullmatch(self.name)
        return int(match[1]) if match else None

    def reason(self, model: str) -> str:
        """Write why the provider of ``model`` failed: litellm's words for ``502-KIND``."""
        kind = self.name.partition("-")[2]
        is_own = self.status == 502 and kind in provider_errors.KINDS
        return provider_errors.provider_error(kind, model) if is_own else "upstream error"


@dataclass(frozen=True)
class ErrorResponse:
    """A whole answer that is a failure."""

    status: int
    body: bytes
    headers: dict[str, str]


def parse(spec: str) -> Fault:
    """Read a fault. Raises ServiceError: 400, for a fault that isn't in the list."""
    match = _SPEC.fullmatch("503*2" if spec == "fail-twice" else spec)
    if match is None or not _exists(match[1]):
        raise ServiceError(400, f"No fault {spec!r} in this sandbox; see GET /sandbox/faults")
    name, value, times = match.groups()
    return Fault(spec, name, float(value) if value else None, int(times) if times else None)


def _exists(name: str) -> bool:
    status = _STATUS.fullmatch(name)
    return name in FAULTS or (status is not None and status[2] in _FORMS)


def split_fault(model: str) -> tuple[str, str | None]:
    """Split a model's name into the model that would answer and the fault in it."""
    provider, slash, name = model.rpartition("/")
    if name.startswith("fault-"):
        return f"{provider}{slash}gpt-4o-mini", name[len("fault-") :]
    base, mark, spec = model.partition("!")
    return base, spec if mark else None


class FaultCounters:
    """Counts the failures of 'fail N times, then work'."""

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._counts: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def due(self, fault: Fault, session: str, key: str) -> bool:
        """Say whether the fault strikes this time."""
        if fault.times is None:
            return True
        place = (session, fault.spec, key)
        failures = self._counts.pop(place, 0)
        if failures >= fault.times:
            return False
        self._counts[place] = failures + 1
        if len(self._counts) > self._size:
            self._counts.popitem(last=False)
        return True


def error_response(fault: Fault, detail: Any) -> ErrorResponse | None:
    """Form the answer of a fault that is a whole answer; None for the others.

    ``detail``: the dialect's words for this status.
    """
    if status := fault.status:
        form = fault.name.partition("-")[2]
        if status == 429 and form in _WAITS:
            return _rate_limit_response(
                form, 1.0 if fault.value is None else fault.value, str(detail)
            )
        return _status_response(status, "" if form in provider_errors.KINDS else form, detail)
    if fault.name == "html":
        return ErrorResponse(200, _HTML.encode(), {"content-type": "text/html"})
    if fault.name == "empty":
        return ErrorResponse(200, b"", {})
    if fault.name == "no-choices":
        return _json_response(200, {})
    return None


def _status_response(status: int, form: str, detail: Any) -> ErrorResponse:
    message = detail if isinstance(detail, str) else HTTPStatus(status).phrase
    if form == "html":
        return ErrorResponse(status, _HTML.encode(), {"content-type": "text/html"})
    if form == "empty":
        return ErrorResponse(status, b"", {})
    problem = {"type": "value_error", "loc": ["body"], "msg": message, "input": None}
    bodies: dict[str, Any] = {
        "": {"detail": detail},
        "error": {"error": message},
        "error-object": {"error": {"message": message, "type": "server_error"}},
        "message": {"message": message},
        "plain": {"message": "Too Many Requests"},
        "object": {"detail": {"error": message, "code": "SANDBOX_FAULT"}},
        "list": {"detail": [problem]},
    }
    return _json_response(status, bodies[form])


def _rate_limit_response(form: str, seconds: float, message: str) -> ErrorResponse:
    """Form a 429 that says how long to wait: in its body or in a header."""
    wait: float = int(seconds) if seconds.is_integer() else seconds
    bodies: dict[str, Any] = {
        "": {"detail": message, "retry_after": wait},
        "body": {"detail": message, "retry_after": wait},
        "detail": {"detail": {"error": message, "retry_after": wait}},
        "detail-s": {"detail": {"error": message, "retry_after_s": wait}},
    }
    headers = {
        "header": {"retry-after": str(wait)},
        "date": {"retry-after": formatdate(time.time() + seconds, usegmt=True)},
        "ms": {"retry-after-ms": f"{seconds * 1000:.0f}"},
    }
    return _json_response(429, bodies.get(form, {"detail": message}), headers.get(form))


def _json_response(
    status: int, body: Any, headers: Mapping[str, str] | None = None
) -> ErrorResponse:
    all_headers = {"content-type": "application/json", **(headers or {})}
    return ErrorResponse(status, json.dumps(body).encode(), all_headers)


def error_body(fault: Fault, error: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Form the body of a plain 200 that is an error event's text; None for other faults."""
    kind, _, place = fault.name.partition("-")
    if kind not in ("error", "detail") or place not in ("first", "mid"):
        return None
    return error if kind == "error" else {"detail": error["error"]["message"]}
