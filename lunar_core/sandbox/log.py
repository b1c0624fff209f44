"""The log of the sandbox: its requests and bills, kept in memory within bounds.

A *session* keeps clients apart that share a sandbox: the path prefix ``/session/NAME`` of the
base URL, or the header ``x-sandbox-session``. Without either, the session is ``""``.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RECORDS = 50_000
MAX_SIZE = 64 * 1024 * 1024
"""Characters in the bodies of all kept requests together; the oldest requests go first."""

_SECRET = ("x-api-key", "authorization", "cookie")


class Log:
    """Requests and bills, oldest first."""

    def __init__(self) -> None:
        self._requests: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._billed: deque[dict[str, Any]] = deque(maxlen=MAX_RECORDS)
        self._size = 0
        self._numbers = count(1)
        self._change = asyncio.Event()

    def request(
        self, session: str, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """Begin the record of a request; ``body``, ``model`` and ``status`` are filled in later."""
        number = next(self._numbers)
        record: dict[str, Any] = {
            "number": number,
            "request_id": f"req_{number}",
            "session": session,
            "time": time.time(),
            "method": method,
            "path": path,
            "query": query,
            "headers": {name: _redact(name, value) for name, value in headers.items()},
            "body": "",
            "model": None,
            "fault": None,
            "status": None,
        }
        self._requests[number] = record
        self._trim()
        self._notify()
        return record

    def body(self, record: dict[str, Any], body: bytes) -> None:
        """Add the raw body to a request's record, if that wasn't forgotten meanwhile."""
        record["body"] = body.decode("utf-8", "replace")
        if record["number"] in self._requests:
            self._size += len(record["body"])
            self._trim()

    def bill(self, record: Mapping[str, Any]) -> None:
        """Add what a call cost. Records are whole when they are added."""
        self._billed.append(dict(record, time=time.time()))
        self._notify()

    def clear(self, session: str | None) -> None:
        """Forget a session, or everything."""
        if session is None:
            self._requests.clear()
            self._billed.clear()
        else:
            remaining = [(n, r) for n, r in self._requests.items() if r["session"] != session]
            self._requests = OrderedDict(remaining)
            self._billed = deque(
                (r for r in self._billed if r["session"] != session), maxlen=MAX_RECORDS
            )
        self._size = sum(len(record["body"]) for record in self._requests.values())

    async def read(
        self, kind: str, session: str | None, *, at_least: int, timeout: float
    ) -> list[dict[str, Any]]:
        """Return the ``requests`` or ``billed`` of a session (None: of all).

        Waits up to ``timeout`` seconds until there are ``at_least`` so many: a hang-up is
        noticed, and billed, a moment after the client went away.
        """
        deadline = time.monotonic() + timeout
        while True:
            records = self._requests.values() if kind == "requests" else self._billed
            matching = [r for r in records if session is None or r["session"] == session]
            left = deadline - time.monotonic()
            if len(matching) >= at_least or left <= 0:
                return matching
            try:
                await asyncio.wait_for(self._change.wait(), left)
            except asyncio.TimeoutError:
                continue

    def _trim(self) -> None:
        while len(self._requests) > MAX_RECORDS or (
            self._size > MAX_SIZE and len(self._requests) > 1
        ):
            self._size -= len(self._requests.popitem(last=False)[1]["body"])

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _redact(name: str, value: str) -> str:
    """The header's value, with a secret replaced; the scheme of an authorization is kept."""
    if name not in _SECRET:
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} [redacted]" if name == "authorization" and space else "[redacted]"
