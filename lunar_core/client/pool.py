"""The connections of one client to the one service it talks to: free lists, sync and async.

httpcore's pool, which is httpx's, looks at every connection for every request: with 100 in flight that costs 27 times
the server's own time, and its lock can deadlock with the garbage collector. Here a request takes the connection that
came back last, or opens a new one. Permits and free lists are C structures that a finalizer may touch at any moment;
no lock is held around them.

Both answer with what httpx calls a Response, as far as it is needed, and raise our errors.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from queue import Empty, SimpleQueue

from lunar_core.client.http11 import Exchange, Head, Request
from lunar_core.client.sockets import AsyncioStream, Deadline, Origin, SocketStream
from lunar_core.errors import APIConnectionError, APITimeoutError, unsent

KEEPALIVE_SECONDS = 30.0
_PORTS = 65_536  # no machine can have more connections to one service


class Connection:
    """One connection, opened by its first request."""

    def __init__(self, origin: Origin) -> None:
        self.deadline = Deadline()
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self._origin = origin
        self._stream: SocketStream | None = None

    @property
    def is_stale(self) -> bool:
        age = time.monotonic() - self.idle_since
        return age > KEEPALIVE_SECONDS or self._stream is None or self._stream.is_readable

    def ask(self, request: Request) -> Head:
        self.deadline.at = request.deadline
        self.exchange = exchange = Exchange()
        stream = self._stream
        if stream is None:
            stream = SocketStream(self._origin, self.deadline, request.timeout.connect)
            self._stream = stream
        try:
            for piece in exchange.written(request):
                stream.write(piece, request.timeout.write)
        except APITimeoutError:
            raise
        except APIConnectionError:
            exchange.cut_short = True  # a service may have refused it before it had read all
        while True:
            head = exchange.take_head(stream.read(request.timeout.read))
            if head is not None:
                return head

    def read(self, timeout: float | None) -> bytes:
        return b"" if self._stream is None else self._stream.read(timeout)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class Pool:
    def __init__(self, origin: Callable[[], Origin], max_connections: int) -> None:
        self._origin = origin
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._closed = False
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(min(max_connections, _PORTS)):
            self._permits.put(None)
        # Not __del__: in a cycle of references the collector might finalize the sockets first, which warns.
        weakref.finalize(self, _close_all, self._idle, self._busy)

    def send(self, request: Request) -> Response:
        try:
            self._permits.get(timeout=request.timeout.pool)
        except Empty:
            raise unsent(APITimeoutError("no connection came free in time")) from None
        link = None
        try:
            link = self._take()
            self._busy.add(link)
            return Response(self, link, link.ask(request), request.timeout.read)
        except BaseException:
            self.give_back(link)
            raise

    def _take(self) -> Connection:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if not link.is_stale:
                return link
            link.close()
        return Connection(self._origin())

    def give_back(self, link: Connection | None) -> None:
        """Keep a connection whose answer was read out; end any other."""
        if link is not None:
            self._busy.discard(link)
            if link.exchange is not None and link.exchange.is_over and not self._closed:
                link.idle_since = time.monotonic()
                self._idle.append(link)
                self._drop_expired(link.idle_since)
            else:
                link.close()
        self._permits.put(None)

    def _drop_expired(self, now: float) -> None:
        while self._idle and now - self._idle[0].idle_since > KEEPALIVE_SECONDS:
            try:
                self._idle.popleft().close()
            except IndexError:  # another thread was quicker
                break

    def close(self) -> None:
        self._closed = True
        _close_all(self._idle, self._busy)
        self._idle.clear()


def _close_all(*links: Iterable[Connection]) -> None:
    for link in [link for some in links for link in some]:
        link.close()


class Response:
    """An answer whose body is still to be read. Closing it gives its connection back."""

    def __init__(self, pool: Pool, link: Connection, head: Head, timeout: float | None) -> None:
        self.status_code = head.status
        self.headers = head.headers
        self.extensions = {"deadline": link.deadline}
        self._pool = pool
        self._link: Connection | None = link
        self._timeout = timeout

    def iter_raw(self) -> Iterator[bytes]:
        link = self._link
        if link is None or link.exchange is None:
            return
        body, data = link.exchange.body, link.exchange.came_with_head
        while not body.done:
            piece = body.take(data or link.read(self._timeout))
            data = b""
            if piece:
                yield piece

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._pool.give_back(link)


class AsyncConnection:
    """One connection, opened by its first request."""

    def __init__(self, origin: Origin) -> None:
        self.deadline = Deadline()
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self._origin = origin
        self._stream: AsyncioStream | None = None

    @property
    def is_stale(self) -> bool:
        age = time.monotonic() - self.idle_since
        return age > KEEPALIVE_SECONDS or self._stream is None or self._stream.is_readable

    async def ask(self, request: Request) -> Head:
        self.deadline.at = request.deadline
        self.exchange = exchange = Exchange()
        stream = self._stream
        if stream is None:
            stream = await AsyncioStream.connect(
                self._origin, self.deadline, request.timeout.connect
            )
            self._stream = stream
        try:
            for piece in exchange.written(request):
                await stream.write(piece, request.timeout.write)
        except APITimeoutError:
            raise
        except APIConnectionError:
            exchange.cut_short = True  # a service may have refused it before it had read all
        while True:
            head = exchange.take_head(await stream.read(request.timeout.read))
            if head is not None:
                return head

    async def read(self, timeout: float | None) -> bytes:
        return b"" if self._stream is None else await self._stream.read(timeout)

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()


class AsyncPool:
    """The same for one event loop."""

    def __init__(self, origin: Callable[[], Origin], max_connections: int) -> None:
        self._origin = origin
        self._idle: deque[AsyncConnection] = deque()
        self._busy: set[AsyncConnection] = set()
        self._closed = False
        self._permits = asyncio.Semaphore(max_connections)
        self._until_loop_ends: AsyncIterator[None] | None = None

    async def send(self, request: Request) -> AsyncResponse:
        await self._permit(request.timeout.pool)
        link = None
        try:
            if self._until_loop_ends is None:
                self._until_loop_ends = self._close_with_loop()
                await self._until_loop_ends.__anext__()
            link = await self._take()
            self._busy.add(link)
            return AsyncResponse(self, link, await link.ask(request), request.timeout.read)
        except BaseException:
            await self.give_back(link)
            raise

    async def _permit(self, seconds: float | None) -> None:
        if not self._permits.locked():
            await self._permits.acquire()
            return
        try:
            await asyncio.wait_for(self._permits.acquire(), seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
            raise unsent(APITimeoutError("no connection came free in time")) from None

    async def _close_with_loop(self) -> AsyncIterator[None]:
        # asyncio.run() ends by closing the async generators that are still open: the one moment at
        # which a loop that is about to go says so. Without it the sockets would outlive the loop.
        try:
            yield
        finally:
            await self.aclose()

    async def _take(self) -> AsyncConnection:
        while self._idle:
            link = self._idle.pop()
            if not link.is_stale:
                return link
            await link.aclose()
        return AsyncConnection(self._origin())

    async def give_back(self, link: AsyncConnection | None) -> None:
        """Keep a connection whose answer was read out; end any other."""
        self._permits.release()
        if link is None:
            return
        self._busy.discard(link)
        if link.exchange is not None and link.exchange.is_over and not self._closed:
            link.idle_since = time.monotonic()
            self._idle.append(link)
            while self._idle and link.idle_since - self._idle[0].idle_since > KEEPALIVE_SECONDS:
                await self._idle.popleft().aclose()
        else:
            await link.aclose()

    async def aclose(self) -> None:
        self._closed = True
        links = [*self._idle, *self._busy]
        self._idle.clear()
        for link in links:
            await link.aclose()


class AsyncResponse:
    def __init__(
        self, pool: AsyncPool, link: AsyncConnection, head: Head, timeout: float | None
    ) -> None:
        self.status_code = head.status
        self.headers = head.headers
        self.extensions = {"deadline": link.deadline}
        self._pool = pool
        self._link: AsyncConnection | None = link
        self._timeout = timeout

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        link = self._link
        if link is None or link.exchange is None:
            return
        body, data = link.exchange.body, link.exchange.came_with_head
        while not body.done:
            piece = body.take(data or await link.read(self._timeout))
            data = b""
            if piece:
                yield piece

    async def aclose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await self._pool.give_back(link)
