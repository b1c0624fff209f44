"""The sockets below the requests, to close a connection in ways that no HTTP framework offers."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import Response
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


@dataclass
class _Connection:
    transport: asyncio.Transport
    lost: asyncio.Event = field(default_factory=asyncio.Event)


_OPEN: dict[tuple[str, int], _Connection] = {}
"""By the client's address: HTTP/1.1 has one request at a time on each connection."""


class HangUpError(Exception):
    """Ends the connection here and now."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also records its open connections."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if self.client:
            _OPEN[self.client] = _Connection(transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.client and (connection := _OPEN.pop(self.client, None)):
            connection.lost.set()


async def abort(scope: Scope, *, reset: bool) -> None:
    """Close a request's connection: after what was written, or at once with RST."""
    connection = _OPEN.get(tuple(scope["client"]))
    if connection is None:
        return
    sock = connection.transport.get_extra_info("socket")
    if reset and sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()
    await connection.lost.wait()  # Before uvicorn knows, it would miss the answer's end.


async def gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Unfinished(Response):
    """An answer of ``length`` bytes of which only the ``start`` is sent, if anything."""

    def __init__(self, start: bytes = b"", length: int = 0) -> None:
        super().__init__(media_type="application/json", headers={"content-length": str(length)})
        self._start = start

    async def _begin(self, send: Send) -> None:
        if self._start:
            headers = self.raw_headers
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._start, "more_body": True})


class Abort(_Unfinished):
    """Closes the connection instead of sending the rest."""

    def __init__(self, start: bytes = b"", length: int = 0, *, reset: bool) -> None:
        super().__init__(start, length)
        self._reset = reset

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        await abort(scope, reset=self._reset)


class Hang(_Unfinished):
    """Sends nothing more, until the client closes the connection."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        await gone(receive)
