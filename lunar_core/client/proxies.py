"""A connection through a proxy: httpcore's own tunnel, over its own streams, each step bounded by our deadline.

The names of proxies are looked up, and their addresses tried, as those of services are (``addresses.py``).
"""

from __future__ import annotations

import ssl
from typing import Any

import httpcore

from lunar_core.client.addresses import (
    Address,
    Interrupt,
    Origin,
    end_of,
    find_addresses,
    shut_down,
    try_each,
)
from lunar_core.client.sockets import AsyncioStream, Deadline


class ProxiedConnection(httpcore.ConnectionInterface):
    """Takes one request at a time."""

    def __init__(self, proxy: httpcore.Proxy, origin: httpcore.Origin, tls: ssl.SSLContext) -> None:
        self.deadline = Deadline()
        self.idle_since = 0.0
        self._interrupt = Interrupt()
        self._backend = _Backend(self.deadline, self._interrupt)
        # This pool never holds anything: it knows which kind of connection suits which proxy.
        kinds = httpcore.ConnectionPool(proxy=proxy, ssl_context=tls, network_backend=self._backend)
        self._connection = kinds.create_connection(origin)

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        self.deadline.at = request.extensions.get("deadline")
        return self._connection.handle_request(request)

    def is_idle(self) -> bool:
        return self._connection.is_idle()

    def has_expired(self) -> bool:
        return self._connection.has_expired()

    def interrupt(self) -> None:
        """End what another thread waits for; that thread closes the connection."""
        self._interrupt.fire()

    def abandon(self) -> None:
        """Close the socket alone: httpcore's own connection has a lock."""
        self._backend.close()

    def close(self) -> None:
        self._connection.close()
        self._backend.close()


class _Backend(httpcore.NetworkBackend):
    """Opens the one stream of a connection."""

    def __init__(self, deadline: Deadline, interrupt: Interrupt) -> None:
        self._deadline = deadline
        self._interrupt = interrupt
        self._stream: httpcore.NetworkStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.bounded(timeout)
        ends = end_of(seconds)
        system = httpcore.SyncBackend()

        def connect(address: Address, share: float | None) -> httpcore.NetworkStream:
            return system.connect_tcp(address[4][0], port, share, local_address, ())

        try:
            addresses = find_addresses(host, port, seconds, self._interrupt)
            stream = try_each(addresses, ends, connect)
        except (TimeoutError, httpcore.TimeoutException):
            raise _no_proxy_in_time(host, port) from None
        except (OSError, httpcore.NetworkError) as error:
            raise _no_proxy(host, port, error) from None
        return _Stream(self._opened(stream), self)

    def _opened(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        self._stream = stream
        self._interrupt.arm(lambda: shut_down(stream.get_extra_info("socket")))
        return stream

    def start_tls(
        self,
        stream: httpcore.NetworkStream,
        context: ssl.SSLContext,
        name: str | None,
        timeout: float | None,
    ) -> httpcore.NetworkStream:
        sock = stream.get_extra_info("socket")
        # The handshake takes the descriptor out of a plain socket; TLS inside TLS leaves it where it is.
        twin = sock if isinstance(sock, ssl.SSLSocket) else sock.dup()
        self._interrupt.arm(lambda: shut_down(twin))
        try:
            return self._opened(stream.start_tls(context, name, timeout))
        finally:
            if twin is not sock:
                twin.close()

    def bounded(self, timeout: float | None, expired: type[Exception]) -> float | None:
        """``timeout``, or what is left of the call. Raises ``expired`` if that is nothing."""
        seconds = self._deadline.bounded(timeout)
        if seconds == 0:
            raise expired("the call's time is over")
        return seconds

    def close(self) -> None:
        if self._stream is not None:
            self._stream.get_extra_info("socket").close()


class _Stream(httpcore.NetworkStream):
    """A stream of httpcore's, each step bounded by the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.bounded(timeout, httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        seconds = self._backend.bounded(timeout, httpcore.ConnectTimeout)
        stream = self._backend.start_tls(self._stream, ssl_context, server_hostname, seconds)
        return _Stream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


class AsyncProxiedConnection(httpcore.AsyncConnectionInterface):
    """The same for asyncio, over streams of our own, which know the deadline."""

    def __init__(self, proxy: httpcore.Proxy, origin: httpcore.Origin, tls: ssl.SSLContext) -> None:
        self.deadline = Deadline()
        self.idle_since = 0.0
        self._backend = _AsyncBackend(self.deadline)
        kinds = httpcore.AsyncConnectionPool(
            proxy=proxy, ssl_context=tls, network_backend=self._backend
        )
        self._connection = kinds.create_connection(origin)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        self.deadline.at = request.extensions.get("deadline")
        return await self._connection.handle_async_request(request)

    def is_idle(self) -> bool:
        return self._connection.is_idle()

    def has_expired(self) -> bool:
        return self._connection.has_expired()

    def abort(self) -> None:
        if self._backend.stream is not None:
            self._backend.stream.abort()

    async def aclose(self) -> None:
        self.abort()  # first: it waits for nothing, so that no cancellation can come between
        await self._connection.aclose()


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """Opens the one stream of a connection."""

    def __init__(self, deadline: Deadline) -> None:
        self.stream: AsyncioStream | None = None
        self._deadline = deadline

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        proxy = Origin(host, port)
        self.stream = await AsyncioStream.connect(proxy, self._deadline, timeout)
        return self.stream


def _no_proxy_in_time(host: str, port: int) -> httpcore.ConnectTimeout:
    return httpcore.ConnectTimeout(f"no connection to {host}:{port} in time")


def _no_proxy(host: str, port: int, error: Exception) -> httpcore.ConnectError:
    return httpcore.ConnectError(f"no connection to {host}:{port}: {error}")
