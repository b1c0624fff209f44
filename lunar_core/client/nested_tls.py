"""TLS inside the TLS connection to a proxy.

Python's sockets cannot nest TLS, nor can asyncio's transports before Python 3.11. On 3.11 those can, but lose the
reason of a failed inner handshake and log a TypeError of their own.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import httpcore

from lunar_core.client.sockets import (
    AsyncioStream,
    Deadline,
    SocketStream,
    describe_break,
    handshake_error,
)

T = TypeVar("T")

_READ_BYTES = 64 * 1024


class NestedTLSStream(httpcore.NetworkStream):
    """A stream of TLS over another one, for the sync client. Raises httpcore's errors."""

    def __init__(self, outer: SocketStream, context: ssl.SSLContext, name: str) -> None:
        self._outer = outer
        self._inner = _Inner(context, name)

    @property
    def deadline(self) -> Deadline:
        """The deadline of the call that has the connection."""
        return self._outer.deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._outer.deadline = deadline

    def shake_hands(self, timeout: float | None) -> None:
        """Do the TLS handshake. To be called once, before anything is read or written."""
        try:
            self._carry_out(self._inner.tls.do_handshake, timeout)
        except (OSError, ValueError) as error:
            raise handshake_error(error) from None

    def read(self, max_bytes: int = _READ_BYTES, timeout: float | None = None) -> bytes:
        """The bytes that have come, or else the next ones; b"" at the end of the connection."""
        try:
            return self._carry_out(partial(self._inner.tls.read, max_bytes), timeout)
        except _ENDS:
            return b""
        except OSError as error:
            raise httpcore.ReadError(describe_break(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                rest = rest[self._carry_out(partial(self._inner.tls.write, rest), timeout) :]
        except OSError as error:
            raise httpcore.WriteError(describe_break(error)) from None

    def _carry_out(self, step: Callable[[], T], timeout: float | None) -> T:
        """Run ``step`` of the inner TLS, and move the bytes that it needs and makes over the outer stream."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                self._inner.receive(self._outer.read(timeout=timeout))
            else:
                self._flush(timeout)
                return result

    def _flush(self, timeout: float | None) -> None:
        data = self._inner.outgoing.read()
        if data:  # a connection that has ended can still be read, but not written to
            self._outer.write(data, timeout)

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: on an idle connection, the server has hung up or speaks unasked."""
        return self._inner.has_more or self._outer.is_readable

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for by name: socket, client_addr, server_addr, ssl_object or is_readable."""
        if info == "is_readable":
            return self.is_readable
        return self._inner.tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def close(self) -> None:
        self._outer.close()


class AsyncNestedTLSStream(httpcore.AsyncNetworkStream):
    """The same for asyncio."""

    def __init__(self, outer: AsyncioStream, context: ssl.SSLContext, name: str) -> None:
        self._outer = outer
        self._inner = _Inner(context, name)

    @property
    def deadline(self) -> Deadline:
        """The deadline of the call that has the connection."""
        return self._outer.deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._outer.deadline = deadline

    async def shake_hands(self, timeout: float | None) -> None:
        """Do the TLS handshake. To be called once, before anything is read or written."""
        try:
            await self._carry_out(self._inner.tls.do_handshake, timeout)
        except (OSError, ValueError) as error:
            raise handshake_error(error) from None

    async def read(self, max_bytes: int = _READ_BYTES, timeout: float | None = None) -> bytes:
        """The bytes that have come, or else the next ones; b"" at the end of the connection."""
        try:
            return await self._carry_out(partial(self._inner.tls.read, max_bytes), timeout)
        except _ENDS:
            return b""
        except OSError as error:
            raise httpcore.ReadError(describe_break(error)) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                rest = rest[await self._carry_out(partial(self._inner.tls.write, rest), timeout) :]
        except OSError as error:
            raise httpcore.WriteError(describe_break(error)) from None

    async def _carry_out(self, step: Callable[[], T], timeout: float | None) -> T:
        """Run ``step`` of the inner TLS, and move the bytes that it needs and makes over the outer stream."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush(timeout)
                self._inner.receive(await self._outer.read(timeout=timeout))
            else:
                await self._flush(timeout)
                return result

    async def _flush(self, timeout: float | None) -> None:
        data = self._inner.outgoing.read()
        if data:  # a connection that has ended can still be read, but not written to
            await self._outer.write(data, timeout)

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: on an idle connection, the server has hung up or speaks unasked."""
        return self._inner.has_more or self._outer.is_readable

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for by name: socket, client_addr, server_addr, ssl_object or is_readable."""
        if info == "is_readable":
            return self.is_readable
        return self._inner.tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def abort(self) -> None:
        self._outer.abort()

    async def aclose(self) -> None:
        await self._outer.aclose()


_ENDS = (ssl.SSLZeroReturnError, ssl.SSLEOFError)


class _Inner:
    """The inner TLS session, between two memory buffers."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.tls = context.wrap_bio(self._incoming, self.outgoing, server_hostname=name)
        except ValueError as error:
            raise handshake_error(error) from None

    def receive(self, data: bytes) -> None:
        """Take bytes from the outer stream; b"" at its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    @property
    def has_more(self) -> bool:
        return bool(self.tls.pending() or self._incoming.pending)
