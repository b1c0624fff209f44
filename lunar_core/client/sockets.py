"""One socket per connection. The call's deadline bounds each read and write, beside its own timeout.

A server that sends one byte at a time never exceeds a timeout per read; a Deadline knows when the whole call must be
over. The asyncio stream uses the loop's transports directly. Both are network streams of httpcore's, and raise its
errors.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import httpcore

from lunar_core.client.addresses import Interrupt, Origin, async_connect, connect, shut_down

_READ_BYTES = 64 * 1024
_TURN_BYTES = 32 * 1024
"""How much one task reads before other tasks get their turn: some hundred chunks of a stream."""
_HIGH_WATER = 1024 * 1024


class Deadline:
    """When the call that has this connection must be over (``time.monotonic``), or None."""

    def __init__(self, at: float | None = None) -> None:
        self.at = at

    def cap(self, timeout: float | None) -> float | None:
        """``timeout``, or the time that is left of the call if that is less."""
        if self.at is None:
            return timeout
        left = max(0.0, self.at - time.monotonic())
        return left if timeout is None else min(left, timeout)

    @property
    def is_over(self) -> bool:
        return self.at is not None and time.monotonic() >= self.at


class SocketStream(httpcore.NetworkStream):
    """A connection of the sync client. ``timeout``: seconds for one step, or None."""

    def __init__(
        self, origin: Origin, deadline: Deadline, interrupt: Interrupt, timeout: float | None
    ) -> None:
        self.deadline = deadline
        try:
            sock = connect(origin, deadline.cap(timeout), interrupt)
        except TimeoutError:
            raise _no_connection(origin) from None
        except (OSError, UnicodeError) as error:
            raise _connect_error(origin, error) from None
        self._socket = sock
        self._interrupt = interrupt
        interrupt.arm(lambda: shut_down(self._socket))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> SocketStream:
        """Do the TLS handshake; everything after it is encrypted."""
        plain = self._socket
        twin = plain.dup()  # the handshake takes the descriptor out of the first one
        try:
            self._interrupt.arm(lambda: shut_down(twin))
            self._settimeout(timeout)
            self._socket = ssl_context.wrap_socket(plain, server_hostname=server_hostname)
            self._interrupt.arm(lambda: shut_down(self._socket))
        except TimeoutError:
            raise _no_handshake() from None
        except (OSError, ValueError) as error:
            raise handshake_error(error) from None
        finally:
            twin.close()
            if self._socket is plain:
                plain.close()
        return self

    def read(self, max_bytes: int = _READ_BYTES, timeout: float | None = None) -> bytes:
        """The bytes that have come, or else the next ones; b"" at the end of the connection."""
        try:
            self._settimeout(timeout)
            return self._socket.recv(max_bytes)
        except TimeoutError:
            raise _nothing_came() from None
        except OSError as error:
            raise httpcore.ReadError(describe_break(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._settimeout(timeout)
                rest = rest[self._socket.send(rest) :]
        except TimeoutError:
            raise _nothing_taken() from None
        except OSError as error:
            raise httpcore.WriteError(describe_break(error)) from None

    def _settimeout(self, timeout: float | None) -> None:
        seconds = self.deadline.cap(timeout)
        if seconds == 0:  # to a socket, 0 means "do not block"
            raise TimeoutError
        if seconds != self._socket.gettimeout():
            # Only if it changes: a system call, for which other threads get the interpreter.
            self._socket.settimeout(seconds)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for by name: socket, client_addr, server_addr, ssl_object or is_readable."""
        if info == "is_readable":
            return self.is_readable
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        return _describe(self._socket, info)

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: on an idle connection, the server has hung up or speaks unasked."""
        if self._socket.fileno() < 0:
            return True
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([self._socket], [], [], 0)[0])
        poll = select.poll()  # select() cannot look at a descriptor past 1,023
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._socket.close()


class AsyncioStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """An asyncio protocol that is read from. At most one read and one write wait at a time."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
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
            sock = await async_connect(origin, deadline.cap(timeout))
            _, stream = await _in_loop(sock, lambda: cls(deadline))
            stream._socket = sock
        except TimeoutError:
            raise _no_connection(origin) from None
        except (OSError, UnicodeError) as error:
            raise _connect_error(origin, error) from None
        return stream

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> AsyncioStream:
        """Do the TLS handshake; everything after it is encrypted."""
        before = self._transport
        try:
            with anyio.fail_after(self.deadline.cap(timeout)):
                self._transport = await self._loop.start_tls(
                    before, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            raise _no_handshake() from None
        except (OSError, ValueError) as error:
            raise handshake_error(error) from None
        finally:
            if self._transport is before:
                before.abort()
        return self

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

    async def read(self, max_bytes: int = _TURN_BYTES, timeout: float | None = None) -> bytes:
        """The bytes that have come, or else the next ones; b"" at the end of the connection."""
        if self._pieces:  # a reader that never has to wait would keep all other tasks waiting
            await asyncio.sleep(0)
        if self.deadline.is_over:  # nor would it ever see that the time is over
            raise _nothing_came()
        while not self._pieces:
            if self._error is not None:
                raise httpcore.ReadError(describe_break(self._error))
            if self._ended:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._wait(self._reader, timeout, _nothing_came)
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
        self._refuse_closed()
        if self.deadline.is_over:
            raise _nothing_taken()
        self._transport.write(buffer)
        while not self._writable:
            self._writer = self._loop.create_future()
            try:
                await self._wait(self._writer, timeout, _nothing_taken)
            finally:
                self._writer = None
            self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._ended or self._transport.is_closing():
            raise httpcore.WriteError(describe_break(self._error or "it is closed"))

    async def _wait(
        self,
        waiter: asyncio.Future[None],
        timeout: float | None,
        expired: Callable[[], Exception],
    ) -> None:
        seconds = self.deadline.cap(timeout)
        if seconds is None:
            return await waiter
        timer = self._loop.call_later(seconds, _expire, waiter, expired)
        try:
            await waiter
        finally:
            timer.cancel()

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: on an idle connection, the server has hung up or speaks unasked."""
        return self._ended or bool(self._pieces) or self._transport.is_closing()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for by name: socket, client_addr, server_addr, ssl_object or is_readable."""
        if info == "is_readable":
            return self.is_readable
        if info == "ssl_object":
            return self._transport.get_extra_info("ssl_object")
        return _describe(self._transport.get_extra_info("socket"), info)

    def abort(self) -> None:
        """Close it without waiting. The loop closes the socket in its next round, if it still runs."""
        if not self._loop.is_closed():
            self._transport.abort()
        elif self._socket is not None:
            self._socket.close()

    async def aclose(self) -> None:
        self.abort()  # waits for nothing, so that no cancellation can come between


async def _in_loop(
    sock: socket.socket, protocol: Callable[[], AsyncioStream]
) -> tuple[asyncio.BaseTransport, AsyncioStream]:
    try:
        return await asyncio.get_running_loop().create_connection(protocol, sock=sock)
    except BaseException:
        sock.close()
        raise


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], expired: Callable[[], Exception]) -> None:
    if not waiter.done():
        waiter.set_exception(expired())


def _describe(sock: Any, info: str) -> Any:
    if sock is None:
        return None
    if info == "client_addr":
        return sock.getsockname()
    if info == "server_addr":
        return sock.getpeername()
    return sock if info == "socket" else None


def _no_connection(origin: Origin) -> httpcore.ConnectTimeout:
    return httpcore.ConnectTimeout(f"no connection to {origin} in time")


def _connect_error(origin: Origin, error: Exception) -> httpcore.ConnectError:
    return httpcore.ConnectError(f"no connection to {origin}: {_words(error)}")


def _no_handshake() -> httpcore.ConnectTimeout:
    return httpcore.ConnectTimeout("no TLS handshake in time")


def handshake_error(error: Exception) -> httpcore.ConnectError:
    return httpcore.ConnectError(f"no TLS handshake: {_words(error)}")


def _nothing_came() -> httpcore.ReadTimeout:
    return httpcore.ReadTimeout("no answer in time")


def _nothing_taken() -> httpcore.WriteTimeout:
    return httpcore.WriteTimeout("the request was not taken in time")


def describe_break(error: Exception | str) -> str:
    return f"the connection broke: {_words(error)}"


def _words(error: Exception | str) -> str:
    return str(error) or type(error).__name__
