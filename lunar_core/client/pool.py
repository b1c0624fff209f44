"""httpcore's pool with one entry for each origin, which keeps a free list of connections.

httpcore looks at every connection for every request; with 100 requests under way this costs 27 times the server's own
time. Here its pool holds one entry that is always available. The entry gives the request to the connection that came
back last, or opens a new one. Free lists are C structures that a finalizer may change at any moment; no lock is held
around them.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpcore

from lunar_core.client.addresses import Origin
from lunar_core.client.connection import AsyncConnection, Connection
from lunar_core.client.permits import AsyncPermits, Permits, closed_error
from lunar_core.client.sockets import Deadline
from lunar_core.client.tls import tls_context

KEEPALIVE_SECONDS = 30.0


@dataclass(frozen=True)
class Options:
    """What connections are opened with. ``verify``: a TLS context, or None for the process's own."""

    verify: ssl.SSLContext | None = None
    max_connections: int = 1000
    max_idle: int = sys.maxsize
    keepalive: float = KEEPALIVE_SECONDS
    proxy: httpcore.Proxy | None = None
    local_address: str | None = None
    uds: str | None = None
    socket_options: tuple[Any, ...] = ()

    def origin(self, origin: httpcore.Origin, server_name: str | None) -> Origin:
        tls = self.tls() if origin.scheme in (b"https", b"wss") else None
        return Origin(
            host=origin.host.decode("ascii"),
            port=origin.port,
            tls=tls,
            server_name=server_name,
            local_address=self.local_address,
            uds=self.uds,
            socket_options=self.socket_options,
            proxy=self.proxy,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Options:
        return self  # nothing in it changes, and a TLS context has no copy

    def __getstate__(self) -> dict[str, Any]:
        contexts = (self.verify, None if self.proxy is None else self.proxy.ssl_context)
        if any(context is not None for context in contexts):
            raise TypeError(
                "a transport with an ssl.SSLContext of its own cannot be pickled: make it anew where the pickle would "
                "be loaded. Without one, it follows SSL_CERT_FILE and SSL_CERT_DIR there"
            )
        return vars(self)

    def tls(self) -> ssl.SSLContext:
        """The TLS context: the caller's, or the process's, which the first https connection makes."""
        return tls_context() if self.verify is None else self.verify


class Pool(httpcore.ConnectionPool):
    """The connections of one process."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_connections=None)
        self.options = options
        self.permits = Permits(options.max_connections)

    def create_connection(self, origin: httpcore.Origin) -> FreeList:
        """The entry for one origin."""
        return FreeList(origin, self.options, self.permits)

    def close(self) -> None:
        """End all connections, and the waits of other threads."""
        self.permits.close()
        super().close()


class FreeList(httpcore.ConnectionInterface):
    """The connections to one origin. To httpcore it is one connection that always has room."""

    def __init__(self, origin: httpcore.Origin, options: Options, permits: Permits) -> None:
        self._origin = origin
        self._options = options
        self._permits = permits
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._is_closed = False
        # Not __del__: in a cycle of references the collector might finalize the sockets first, which warns.
        weakref.finalize(self, _close_all, self._idle, self._busy)

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        deadline = Deadline(request.extensions.get("deadline"))
        self._permits.acquire(deadline.cap(request.extensions.get("timeout", {}).get("pool")))
        connection = None
        try:
            connection = self._take(request)
            self._busy.add(connection)
            self._refuse_closed()
            response = connection.handle_request(request)
        except BaseException:
            self.give_back(connection)
            raise
        lease = Lease(self, connection, response)
        response.extensions["lunar_lease"] = lease
        return httpcore.Response(
            response.status,
            headers=response.headers,
            content=lease,
            extensions=response.extensions,
        )

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise closed_error()

    def _take(self, request: httpcore.Request) -> Connection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if time.monotonic() - connection.idle_since <= self._options.keepalive and not (
                connection.has_expired()
            ):
                return connection
            connection.close()
        name = request.extensions.get("sni_hostname")
        return Connection(self._options.origin(self._origin, name))

    def give_back(self, connection: Connection | None) -> None:
        """Keep a connection whose response was read to its end; close any other."""
        try:
            if connection is None:
                return
            self._busy.discard(connection)
            room = len(self._idle) < self._options.max_idle and not self._is_closed
            if room and connection.is_idle():
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                self._drop_expired(connection.idle_since)
            else:
                connection.close()
        finally:
            self._permits.release()

    def _drop_expired(self, now: float) -> None:
        while self._idle and now - self._idle[0].idle_since > self._options.keepalive:
            try:
                self._idle.popleft().close()
            except IndexError:  # another thread was quicker
                break

    def close(self) -> None:
        self._is_closed = True
        for connection in list(self._busy):
            connection.interrupt()
        _close_all(self._idle)
        self._idle.clear()

    # What httpcore's pool wants to know

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return origin == self._origin

    def is_available(self) -> bool:
        return True

    def is_idle(self) -> bool:
        return False

    def has_expired(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._is_closed

    def info(self) -> str:
        return f"{len(self._busy)} busy, {len(self._idle)} idle"


def _close_all(*connections: Iterable[Connection]) -> None:
    for connection in [connection for some in connections for connection in some]:
        connection.close()


class Lease:
    """The body of a response. It holds its connection until it is closed."""

    def __init__(
        self,
        free_list: FreeList,
        connection: Connection,
        response: httpcore.Response,
    ) -> None:
        self.deadline = connection.deadline
        self._free_list = free_list
        self._connection: Connection | None = connection
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return iter(cast("Iterable[bytes]", self._response.stream))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                self._response.close()
            finally:
                self._free_list.give_back(connection)

    def abandon(self) -> None:
        """Like ``close``, for the garbage collector: nothing here waits or takes a lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._free_list.give_back(connection)

    def __del__(self) -> None:
        self.abandon()  # an interrupt may have come before anybody had the response


class AsyncPool(httpcore.AsyncConnectionPool):
    """The connections of one event loop."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_connections=None)
        self.options = options
        self.permits = AsyncPermits(options.max_connections)

    def create_connection(self, origin: httpcore.Origin) -> AsyncFreeList:
        """The entry for one origin."""
        return AsyncFreeList(origin, self.options, self.permits)

    def abort(self) -> None:
        """End all connections without waiting."""
        for entry in self.connections:
            if isinstance(entry, AsyncFreeList):
                entry.abort()

    async def aclose(self) -> None:
        """End all connections, and the waits of other tasks."""
        self.permits.close()
        await super().aclose()
        await asyncio.sleep(0)  # in its next round the loop lets go of the sockets


class AsyncFreeList(httpcore.AsyncConnectionInterface):
    """The connections to one origin, in one event loop."""

    def __init__(self, origin: httpcore.Origin, options: Options, permits: AsyncPermits) -> None:
        self._origin = origin
        self._options = options
        self._permits = permits
        self._idle: deque[AsyncConnection] = deque()
        self._busy: set[AsyncConnection] = set()
        self._is_closed = False
        self._until_loop_ends: AsyncGenerator[None] | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        deadline = Deadline(request.extensions.get("deadline"))
        timeouts = request.extensions.get("timeout", {})
        await self._permits.acquire(deadline.cap(timeouts.get("pool")))
        connection = None
        try:
            if self._until_loop_ends is None:
                self._until_loop_ends = self._abort_with_loop()
                await self._until_loop_ends.__anext__()
            connection = await self._take(request)
            self._busy.add(connection)
            self._refuse_closed()
            response = await connection.handle_async_request(request)
        except BaseException:
            await self.give_back(connection)
            raise
        lease = AsyncLease(self, connection, response)
        response.extensions["lunar_lease"] = lease
        return httpcore.Response(
            response.status,
            headers=response.headers,
            content=lease,
            extensions=response.extensions,
        )

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise closed_error()

    async def _take(self, request: httpcore.Request) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since <= self._options.keepalive and not (
                connection.has_expired()
            ):
                return connection
            await connection.aclose()
        name = request.extensions.get("sni_hostname")
        return AsyncConnection(self._options.origin(self._origin, name))

    async def give_back(self, connection: AsyncConnection | None) -> None:
        """Keep a connection whose response was read to its end; close any other."""
        try:
            if connection is None:
                return
            self._busy.discard(connection)
            room = len(self._idle) < self._options.max_idle and not self._is_closed
            if room and connection.is_idle():
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                await self._drop_expired(connection.idle_since)
            else:
                await connection.aclose()
        finally:
            self._permits.release()

    async def _drop_expired(self, now: float) -> None:
        while self._idle and now - self._idle[0].idle_since > self._options.keepalive:
            await self._idle.popleft().aclose()

    async def _abort_with_loop(self) -> AsyncGenerator[None]:
        # asyncio.run() ends by closing the async generators that are still open: the one moment at which a loop that
        # is about to go says so. Without it the sockets would outlive the loop. Nothing is awaited here, because the
        # generator may also be finalized where no loop turns any more (nest_asyncio).
        try:
            yield
        finally:
            self.abort()

    def abort(self) -> None:
        """End all connections without waiting."""
        self._is_closed = True
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()

    async def aclose(self) -> None:
        self._is_closed = True
        for connection in list(self._busy):
            connection.abort()  # whoever waits for it closes it
        while self._idle:
            await self._idle.pop().aclose()
        if self._until_loop_ends is not None:
            await self._until_loop_ends.aclose()

    # What httpcore's pool wants to know

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return origin == self._origin

    def is_available(self) -> bool:
        return True

    def is_idle(self) -> bool:
        return False

    def has_expired(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._is_closed

    def info(self) -> str:
        return f"{len(self._busy)} busy, {len(self._idle)} idle"


class AsyncLease:
    """The body of a response. It holds its connection until it is closed."""

    def __init__(
        self,
        free_list: AsyncFreeList,
        connection: AsyncConnection,
        response: httpcore.Response,
    ) -> None:
        self.deadline = connection.deadline
        self._free_list = free_list
        self._connection: AsyncConnection | None = connection
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(cast("AsyncIterable[bytes]", self._response.stream))

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await self._response.aclose()
            finally:
                await self._free_list.give_back(connection)
