"""One HTTP/1.1 connection over one socket, with the interface that httpcore's pool expects."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import anyio
import httpcore

from lunar_core.client.addresses import Interrupt, Origin
from lunar_core.client.http11 import Exchange, Head, Headers, Request
from lunar_core.client.nested_tls import AsyncNestedTLSStream, NestedTLSStream
from lunar_core.client.opening import async_open_stream, open_stream
from lunar_core.client.permits import closed_error
from lunar_core.client.sockets import AsyncioStream, Deadline, SocketStream


class Connection(httpcore.ConnectionInterface):
    """Opened by its first request; takes one request at a time."""

    def __init__(self, origin: Origin) -> None:
        self.deadline = Deadline()
        self.idle_since = 0.0
        self._origin = origin
        self._interrupt = Interrupt()
        self._exchange: Exchange | None = None
        self._stream: SocketStream | NestedTLSStream | None = None

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Write the request and read the head of the response. Raises httpcore's errors."""
        timeout = request.extensions.get("timeout", {})
        # A new one: whoever still holds the one of the call before changes nothing here.
        self.deadline = Deadline(request.extensions.get("deadline"))
        body = b"".join(cast("Iterable[bytes]", request.stream))
        self._exchange = exchange = Exchange()
        pieces = exchange.encode(_as_written(request, body, self._origin))
        stream = self._stream
        if stream is None:
            stream = open_stream(
                self._origin, self.deadline, self._interrupt, timeout.get("connect")
            )
            self._stream = stream
        stream.deadline = self.deadline
        try:
            for piece in pieces:
                stream.write(piece, timeout.get("write"))
        except (
            httpcore.WriteError
        ):  # the service may have refused the request before it read all of it
            exchange.cut_short = True
        seconds = timeout.get("read")
        while True:
            head = exchange.take_head(stream.read(timeout=seconds))
            if head is not None:
                break
        content = _read_body(exchange, stream, seconds)
        return _response(head, content, stream)

    def is_idle(self) -> bool:
        """Whether the last response was read to its end, so that another request may follow."""
        return self._exchange is not None and self._exchange.is_over

    def has_expired(self) -> bool:
        """Whether the server has closed the connection, or has sent bytes that nobody asked for."""
        return self._stream is None or self._stream.is_readable

    def interrupt(self) -> None:
        """End the wait of another thread. That thread closes the connection."""
        self._interrupt.fire()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _read_body(
    exchange: Exchange, stream: SocketStream | NestedTLSStream, timeout: float | None
) -> Iterator[bytes]:
    body, data = exchange.body, exchange.came_with_head
    while not body.done:
        piece = body.take(data or stream.read(timeout=timeout))
        data = b""
        if piece:
            yield piece


class AsyncConnection(httpcore.AsyncConnectionInterface):
    """The same for asyncio."""

    def __init__(self, origin: Origin) -> None:
        self.deadline = Deadline()
        self.idle_since = 0.0
        self._origin = origin
        self._opening: anyio.CancelScope | None = None
        self._exchange: Exchange | None = None
        self._stream: AsyncioStream | AsyncNestedTLSStream | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Write the request and read the head of the response. Raises httpcore's errors."""
        timeout = request.extensions.get("timeout", {})
        # A new one: whoever still holds the one of the call before changes nothing here.
        self.deadline = Deadline(request.extensions.get("deadline"))
        body = b"".join([part async for part in cast("AsyncIterable[bytes]", request.stream)])
        self._exchange = exchange = Exchange()
        pieces = exchange.encode(_as_written(request, body, self._origin))
        stream = self._stream
        if stream is None:
            with anyio.CancelScope() as self._opening:
                stream = self._stream = await async_open_stream(
                    self._origin, self.deadline, timeout.get("connect")
                )
            if stream is None or self._opening.cancel_called:
                raise closed_error()
        stream.deadline = self.deadline
        try:
            for piece in pieces:
                await stream.write(piece, timeout.get("write"))
        except (
            httpcore.WriteError
        ):  # the service may have refused the request before it read all of it
            exchange.cut_short = True
        seconds = timeout.get("read")
        while True:
            head = exchange.take_head(await stream.read(timeout=seconds))
            if head is not None:
                break
        content = _async_read_body(exchange, stream, seconds)
        return _response(head, content, stream)

    def is_idle(self) -> bool:
        """Whether the last response was read to its end, so that another request may follow."""
        return self._exchange is not None and self._exchange.is_over

    def has_expired(self) -> bool:
        """Whether the server has closed the connection, or has sent bytes that nobody asked for."""
        return self._stream is None or self._stream.is_readable

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()
        elif self._opening is not None:
            with suppress(RuntimeError):  # no loop turns any more, so that nothing goes on
                self._opening.cancel()

    async def aclose(self) -> None:
        self.abort()  # waits for nothing, so that no cancellation can come between


async def _async_read_body(
    exchange: Exchange, stream: AsyncioStream | AsyncNestedTLSStream, timeout: float | None
) -> AsyncIterator[bytes]:
    body, data = exchange.body, exchange.came_with_head
    while not body.done:
        piece = body.take(data or await stream.read(timeout=timeout))
        data = b""
        if piece:
            yield piece


def _as_written(request: httpcore.Request, body: bytes, origin: Origin) -> Request:
    """The request as it is written. A forwarding proxy gets the whole URL, and its own headers."""
    target, headers = request.url.target, _frame(request.headers, body)
    if origin.proxy is not None and origin.is_forwarded:
        target = b"http://%b%b" % (_authority(request.url), target)
        headers = [*origin.proxy.headers, *headers]
    return Request(request.method, target, headers, body)


def _authority(url: httpcore.URL) -> bytes:
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)


def _frame(headers: Headers, body: bytes) -> Headers:
    """``headers`` with a content-length in place of a transfer-encoding: the body is written as a whole."""
    if all(name.lower() != b"transfer-encoding" for name, _ in headers):
        return headers
    kept = [pair for pair in headers if pair[0].lower() != b"transfer-encoding"]
    return [*kept, (b"content-length", b"%d" % len(body))]


def _response(
    head: Head,
    content: Iterable[bytes] | AsyncIterable[bytes],
    stream: httpcore.NetworkStream | httpcore.AsyncNetworkStream,
) -> httpcore.Response:
    # No reason phrase: httpx logs it at INFO, and a service may quote there what it was sent. httpx has the usual ones.
    extensions: dict[str, Any] = {"http_version": head.http_version, "network_stream": stream}
    return httpcore.Response(
        head.status, headers=head.headers, content=content, extensions=extensions
    )
