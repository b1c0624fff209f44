"""The sockets below the requests: for hanging up on a client as no HTTP framework would."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_OPEN: dict[tuple[str, int], asyncio.Transport] = {}
"""Transport by the client's address: HTTP/1.1 has one request at a time on each."""


class HangUp(Exception):
    """Ends the connection here and now."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also tells where its sockets are."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            _OPEN[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            _OPEN.pop(self.client, None)
        super().connection_lost(exc)


async def abort(scope: Scope, *, reset: bool) -> None:
    """Close a request's connection: after what was written, or at once with RST."""
    transport = _OPEN.get(tuple(scope["client"] or ()))  # type: ignore[call-overload]
    if transport is None:
        return
    if reset and (sock := transport.get_extra_info("socket")):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    while tuple(scope["client"]) in _OPEN:  # Until uvicorn knows, it would complain.
        await asyncio.sleep(0)


class Abort(Response):
    """Answers by hanging up, after some bytes of an answer or before any."""

    def __init__(self, *, reset: bool, start: bytes = b"", length: int = 0) -> None:
        super().__init__(media_type="application/json", headers={"content-length": str(length)})
        self._start = start
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the start of the answer, if any, and close the connection."""
        await _begin(self, self._start, send)
        await abort(scope, reset=self._reset)


class Hang(Response):
    """Answers never, after some bytes of an answer or before any; ends when the client does."""

    def __init__(self, *, start: bytes = b"", length: int = 0) -> None:
        super().__init__(media_type="application/json", headers={"content-length": str(length)})
        self._start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the start of the answer, if any, and wait for the client to go away."""
        await _begin(self, self._start, send)
        request = Request(scope, receive)
        while not await request.is_disconnected():
            await receive()


async def _begin(response: Response, start: bytes, send: Send) -> None:
    if start:
        headers = response.raw_headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": start, "more_body": True})
