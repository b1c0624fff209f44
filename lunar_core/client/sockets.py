"""The bytes' way in and out: one socket per connection, each read and write bounded by a deadline too.

A timeout per read keeps a server happy that drips a byte at a time, for ever; a Deadline also knows when its whole call
must be over. The asyncio stream uses the loop's transports directly. Both raise our errors.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio

from lunar_core.errors import APIConnectionError, APITimeoutError, unsent

Address = tuple[Any, Any, int, str, Any]
"""As ``getaddrinfo`` gives it: family, kind, protocol, name, place."""

_READ_BYTES = 64 * 1024
_HIGH_WATER = 1024 * 1024
_HEAD_START = 1.0
"""Seconds that one address of a host may have to itself before the next is tried."""


@dataclass(frozen=True)
class Origin:
    """Where connections lead. ``tls``: the context of an https service, else None."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class Deadline:
    """When the call that has this connection must be over (``time.monotonic``), or None."""

    def __init__(self) -> None:
        self.at: float | None = None

    def bounded(self, timeout: float | None) -> float | None:
        """``timeout``, or less if the call's time is nearly up."""
        if self.at is None:
            return timeout
        left = max(0.0, self.at - time.monotonic())
        return left if timeout is None else min(left, timeout)


def _connected(origin: Origin, seconds: float | None) -> socket.socket:
    """A socket of the first address that answers. Raises OSError, or TimeoutError, which is one."""
    ends = None if seconds is None else time.monotonic() + seconds
    addresses = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    for left, address in _countdown(addresses):
        try:
            return _opened(address, _turn(ends, left))
        except OSError:
            if left == 1:
                raise
    raise OSError("the name has no address")


def _opened(address: Address, seconds: float | None) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        _keep_alive(sock)
        sock.settimeout(seconds)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _async_connected(origin: Origin, seconds: float | None) -> socket.socket:
    """The same for asyncio, whose own race between addresses is not to be had on every event loop (uvloop)."""
    ends = None if seconds is None else time.monotonic() + seconds
    with anyio.fail_after(seconds):
        addresses = await _addresses(origin)
    for left, address in _countdown(addresses):
        try:
            return await _async_opened(address, _turn(ends, left))
        except OSError:
            if left == 1:
                raise
    raise OSError("the name has no address")


async def _async_opened(address: Address, seconds: float | None) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        _keep_alive(sock)
        sock.setblocking(False)  # noqa: FBT003  # positional alone
        # asyncio.wait_for would lose a cancellation, or a connection, that comes with the answer.
        with anyio.fail_after(seconds):
            await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _addresses(origin: Origin) -> list[Address]:
    host, port, kind = origin.host, origin.port, socket.SOCK_STREAM
    try:  # a number is no question to anybody, and needs no thread
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)


def _countdown(addresses: list[Address]) -> Iterator[tuple[int, Address]]:
    """Each, and how many are left with it."""
    return zip(range(len(addresses), 0, -1), addresses, strict=True)


def _turn(ends: float | None, left: int) -> float | None:
    """Seconds that the next of ``left`` addresses of a host may take to answer."""
    rest = None if ends is None else max(ends - time.monotonic(), 0.001)
    if left == 1:
        return rest
    return _HEAD_START if rest is None else min(rest / left, _HEAD_START)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class SocketStream:
    """A connection of the sync client. ``timeout``: seconds for one step, or None."""

    def __init__(self, origin: Origin, deadline: Deadline, timeout: float | None) -> None:
        self._deadline = deadline
        try:
            sock = _connected(origin, deadline.bounded(timeout))
        except TimeoutError:
            raise _no_connection(origin) from None
        except (OSError, UnicodeError) as error:
            raise _refused(origin, error) from None
        self._socket = sock
        if origin.tls is not None:
            self._start_tls(origin.tls, origin.host, timeout)

    def _start_tls(self, context: ssl.SSLContext, host: str, timeout: float | None) -> None:
        plain = self._socket
        try:
            self._settimeout(timeout)
            self._socket = context.wrap_socket(plain, server_hostname=host)
        except TimeoutError:
            raise _no_handshake() from None
        except (OSError, ValueError) as error:
            raise _failed_handshake(error) from None
        finally:
            if self._socket is plain:
                plain.close()

    def read(self, timeout: float | None) -> bytes:
        """What has come, or comes next; b"" at the end of the connection."""
        try:
            self._settimeout(timeout)
            return self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise _nothing_came() from None
        except OSError as error:
            raise _broken(error) from None

    def write(self, data: bytes, timeout: float | None) -> None:
        rest = memoryview(data)
        try:
            while rest:
                self._settimeout(timeout)
                rest = rest[self._socket.send(rest) :]
        except TimeoutError:
            raise _nothing_taken() from None
        except OSError as error:
            raise _broken(error) from None

    def _settimeout(self, timeout: float | None) -> None:
        seconds = self._deadline.bounded(timeout)
        if seconds == 0:  # to a socket, 0 means "do not block"
            raise TimeoutError
        if (
            seconds != self._socket.gettimeout()
        ):  # setting it asks the system, and lets other threads go first
            self._socket.settimeout(seconds)

    @property
    def is_readable(self) -> bool:
        """On an idle connection: the server has hung up, or speaks out of turn."""
        if self._socket.fileno() < 0:
            return True
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([self._socket], [], [], 0)[0])
        poll = select.poll()  # select() cannot look at a descriptor past 1,023
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._socket.close()


class AsyncioStream(asyncio.Protocol):
    """An asyncio protocol that is read from. At most one read and one write wait at a time."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None  # asyncio types start_tls's transport otherwise on each version
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._writable = True

    @classmethod
    async def connect(
        cls, origin: Origin, deadline: Deadline, timeout: float | None
    ) -> AsyncioStream:
        try:
            sock = await _async_connected(origin, deadline.bounded(timeout))
            loop = asyncio.get_running_loop()
            _, stream = await loop.create_connection(lambda: cls(deadline), sock=sock)
        except TimeoutError:
            raise _no_connection(origin) from None
        except (OSError, UnicodeError) as error:
            raise _refused(origin, error) from None
        if origin.tls is not None:
            await stream._start_tls(origin.tls, origin.host, timeout)
        return stream

    async def _start_tls(self, context: ssl.SSLContext, host: str, timeout: float | None) -> None:
        plain = self._transport
        try:
            with anyio.fail_after(self._deadline.bounded(timeout)):
                self._transport = await self._loop.start_tls(
                    plain, self, context, server_hostname=host
                )
        except TimeoutError:
            raise _no_handshake() from None
        except (OSError, ValueError) as error:
            raise _failed_handshake(error) from None
        finally:
            if self._transport is plain:
                plain.abort()

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

    # What the client calls

    async def read(self, timeout: float | None) -> bytes:
        """What has come, or comes next; b"" at the end of the connection."""
        while not self._pieces:
            if self._error is not None:
                raise _broken(self._error)
            if self._ended:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._wait(self._reader, timeout, _nothing_came)
            finally:
                self._reader = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._paused and self._size <= _HIGH_WATER // 2 and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return piece

    async def write(self, data: bytes, timeout: float | None) -> None:
        self._refuse_closed()
        self._transport.write(data)
        while not self._writable:
            self._writer = self._loop.create_future()
            try:
                await self._wait(self._writer, timeout, _nothing_taken)
            finally:
                self._writer = None
            self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._ended or self._transport.is_closing():
            raise _broken(self._error or "the connection is closed")

    async def _wait(
        self, waiter: asyncio.Future[None], timeout: float | None, expired: Any
    ) -> None:
        seconds = self._deadline.bounded(timeout)
        if seconds is None:
            return await waiter
        timer = self._loop.call_later(seconds, _expire, waiter, expired)
        try:
            await waiter
        finally:
            timer.cancel()

    @property
    def is_readable(self) -> bool:
        """On an idle connection: the server has hung up, or speaks out of turn."""
        return self._ended or bool(self._pieces) or self._transport.is_closing()

    async def aclose(self) -> None:
        self._transport.abort()
        # The loop lets go of the socket in its next round: after this, it is closed.
        await asyncio.sleep(0)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], expired: Any) -> None:
    if not waiter.done():
        waiter.set_exception(expired())


def _no_connection(origin: Origin) -> APITimeoutError:
    return unsent(APITimeoutError(f"no connection to {origin.host}:{origin.port} in time"))


def _refused(origin: Origin, error: Exception) -> APIConnectionError:
    return unsent(
        APIConnectionError(f"no connection to {origin.host}:{origin.port}: {_words(error)}")
    )


def _no_handshake() -> APITimeoutError:
    return unsent(APITimeoutError("no TLS handshake in time"))


def _failed_handshake(error: Exception) -> APIConnectionError:
    return unsent(APIConnectionError(f"no TLS handshake: {_words(error)}"))


def _nothing_came() -> APITimeoutError:
    return APITimeoutError("the service did not answer in time")


def _nothing_taken() -> APITimeoutError:
    return APITimeoutError("the service did not take the request in time")


def _broken(error: Exception | str) -> APIConnectionError:
    return APIConnectionError(f"the connection broke: {_words(error)}")


def _words(error: Exception | str) -> str:
    return str(error) or type(error).__name__
