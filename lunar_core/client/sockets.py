"""The bytes' way in and out: one socket per connection, each read and write bounded by a deadline too.

httpcore's own streams know a timeout per read. A server that drips a byte at a time keeps those
happy for ever; a Line also knows when its whole call must be over. The asyncio one uses the loop's
transports directly, without the cancel scopes that cost more than the read itself.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

SocketOption = Any  # httpcore's own union of the three setsockopt forms, which it does not export
_HIGH_WATER = 1024 * 1024


class Line:
    """When the call that has this connection must be over (``time.monotonic``), or None."""

    def __init__(self) -> None:
        self.deadline: float | None = None

    def bounded(self, timeout: float | None) -> float | None:
        """``timeout``, or less if the call's time is nearly up."""
        if self.deadline is None:
            return timeout
        left = max(0.0, self.deadline - time.monotonic())
        return left if timeout is None else min(left, timeout)


class SocketBackend(httpcore.NetworkBackend):
    def __init__(self, line: Line) -> None:
        self._line = line

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # httpcore's signature; we never set it
        socket_options: Iterable[SocketOption] | None = None,  # likewise
    ) -> httpcore.NetworkStream:
        try:
            sock = socket.create_connection((host, port), self._line.bounded(timeout))
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"no connection to {host}:{port}") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{error} ({host}:{port})") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return SocketStream(sock, self._line)


class SocketStream(httpcore.NetworkStream):
    def __init__(self, sock: socket.socket, line: Line) -> None:
        self._sock = sock
        self._line = line

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._settimeout(timeout)
            return self._sock.recv(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout("nothing arrived in time") from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._settimeout(timeout)
                rest = rest[self._sock.send(rest) :]
        except TimeoutError:
            raise httpcore.WriteTimeout("the service does not take the request") from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    def _settimeout(self, timeout: float | None) -> None:
        seconds = self._line.bounded(timeout)
        if seconds == 0:  # to a socket, 0 means "do not block"
            raise TimeoutError
        self._sock.settimeout(seconds)

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            self._settimeout(timeout)
            self._sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except TimeoutError:
            self.close()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from None
        except (OSError, ValueError) as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from None
        return self

    def get_extra_info(self, info: str) -> object:
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if (
            info == "is_readable"
        ):  # on an idle connection: the server has hung up, or speaks out of turn
            return _is_readable(self._sock)
        return self._sock if info == "socket" else None


def _is_readable(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # select() cannot look at a descriptor past 1,023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # httpcore's signature; we never set it
        socket_options: Iterable[SocketOption] | None = None,  # likewise
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(self._line.bounded(timeout)):
                transport, stream = await loop.create_connection(
                    lambda: AsyncioStream(loop, self._line), host, port, happy_eyeballs_delay=0.25
                )
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"no connection to {host}:{port}") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{error} ({host}:{port})") from None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return stream


class AsyncioStream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """An asyncio protocol that is read from. At most one read and one write wait at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line) -> None:
        self._loop = loop
        self._line = line
        self._transport: Any = (
            None  # asyncio types start_tls's transport differently on each version
        )
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._writable = True

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        _wake(self._writer)

    # What httpcore calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error))
            if self._ended:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._wait(
                    self._reader, timeout, httpcore.ReadTimeout, "nothing arrived in time"
                )
            finally:
                self._reader = None
        piece = self._pieces.popleft()
        if len(piece) > max_bytes:
            self._pieces.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._size -= len(piece)
        if self._paused and self._size <= _HIGH_WATER // 2 and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._ended or self._transport.is_closing():
            raise httpcore.WriteError(str(self._error or "the connection is closed"))
        self._transport.write(buffer)
        while not self._writable:
            self._writer = self._loop.create_future()
            try:
                await self._wait(
                    self._writer,
                    timeout,
                    httpcore.WriteTimeout,
                    "the service does not take the request",
                )
            finally:
                self._writer = None
            if self._ended:
                raise httpcore.WriteError(str(self._error or "the connection is closed"))

    async def _wait(
        self, waiter: asyncio.Future[None], timeout: float | None, error: type[Exception], text: str
    ) -> None:
        seconds = self._line.bounded(timeout)
        if seconds is None:
            return await waiter
        timer = self._loop.call_later(seconds, _expire, waiter, error, text)
        try:
            await waiter
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        self._transport.abort()
        # The loop lets go of the socket in its next round: after this, it is closed.
        await asyncio.sleep(0)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(self._line.bounded(timeout)):
                self._transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            self._transport.abort()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from None
        except (OSError, ValueError) as error:
            self._transport.abort()
            raise httpcore.ConnectError(str(error) or type(error).__name__) from None
        except BaseException:
            self._transport.abort()
            raise
        return self

    def get_extra_info(self, info: str) -> object:
        if (
            info == "is_readable"
        ):  # on an idle connection: the server has hung up, or speaks out of turn
            return self._ended or bool(self._pieces) or self._transport.is_closing()
        return self._transport.get_extra_info(info)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], error: type[Exception], text: str) -> None:
    if not waiter.done():
        waiter.set_exception(error(text))
