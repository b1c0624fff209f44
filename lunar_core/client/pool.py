"""The connections of one client to the one service it talks to: free lists, sync and async.

httpcore's own pool looks at every connection for every request: with 100 in flight that costs 27
times the server's own time, and its lock can deadlock with the garbage collector. Here a request
takes the connection that came back last, or opens a new one. Permits and free lists are C
structures that a finalizer may touch at any moment; no lock is held around them.

Both raise httpcore's errors, and answer with what httpx calls a Response, as far as it is needed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from queue import Empty, SimpleQueue

import httpcore

from lunar_core.client.sockets import AsyncioBackend, Line, SocketBackend

KEEPALIVE_SECONDS = 30.0

TLS = Callable[[], ssl.SSLContext]


class _Link:
    """One connection, and when it was last used."""

    def __init__(self, origin: httpcore.Origin, tls: ssl.SSLContext | None) -> None:
        self.line = Line()
        self.idle_since = 0.0
        self.connection = httpcore.HTTPConnection(
            origin, ssl_context=tls, network_backend=SocketBackend(self.line)
        )

    @property
    def stale(self) -> bool:
        age = time.monotonic() - self.idle_since
        return age > KEEPALIVE_SECONDS or self.connection.has_expired()


class Pool:
    def __init__(self, origin: httpcore.Origin, max_connections: int, tls: TLS) -> None:
        self._origin = origin
        self._tls = tls
        self._idle: deque[_Link] = deque()
        self._busy: set[_Link] = set()
        self._closed = False
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(max_connections):
            self._permits.put(None)
        # Not __del__: in a cycle of references the collector might finalize the sockets first, which warns.
        weakref.finalize(self, _close_all, self._idle, self._busy)

    def send(self, request: httpcore.Request) -> Response:
        try:
            self._permits.get(timeout=request.extensions["timeout"]["pool"])
        except Empty:
            raise httpcore.PoolTimeout("no connection came free") from None
        link = None
        try:
            link = self._take()
            self._busy.add(link)
            link.line.deadline = request.extensions["deadline"]
            return Response(self, link, link.connection.handle_request(request))
        except BaseException:
            self.give_back(link, whole=False)
            raise

    def _take(self) -> _Link:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if not link.stale:
                return link
            link.connection.close()
        return _Link(self._origin, self._tls() if self._origin.scheme == b"https" else None)

    def give_back(self, link: _Link | None, *, whole: bool = True) -> None:
        """Keep a connection whose answer was read out; end any other."""
        if link is not None:
            self._busy.discard(link)
            if whole and link.connection.is_idle() and not self._closed:
                link.idle_since = time.monotonic()
                self._idle.append(link)
                self._drop_expired(link.idle_since)
            else:
                link.connection.close()
        self._permits.put(None)

    def _drop_expired(self, now: float) -> None:
        while self._idle and now - self._idle[0].idle_since > KEEPALIVE_SECONDS:
            try:
                self._idle.popleft().connection.close()
            except IndexError:  # another thread was quicker
                break

    def close(self) -> None:
        self._closed = True
        _close_all(self._idle, self._busy)
        self._idle.clear()


def _close_all(*links: Iterable[_Link]) -> None:
    for link in [link for some in links for link in some]:
        link.connection.close()


class Response:
    """An answer whose body is still to be read. Closing it gives its connection back."""

    def __init__(self, pool: Pool, link: _Link, response: httpcore.Response) -> None:
        self.status_code = response.status
        self.headers = _joined(response.headers)
        self.extensions = {"line": link.line}
        self._pool = pool
        self._link: _Link | None = link
        self._response = response

    def iter_raw(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            try:
                self._response.close()
            finally:
                self._pool.give_back(link)


def _joined(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers by their lower-case names, repeated ones as one."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _AsyncLink:
    def __init__(self, origin: httpcore.Origin, tls: ssl.SSLContext | None) -> None:
        self.line = Line()
        self.idle_since = 0.0
        self.connection = httpcore.AsyncHTTPConnection(
            origin, ssl_context=tls, network_backend=AsyncioBackend(self.line)
        )

    @property
    def stale(self) -> bool:
        age = time.monotonic() - self.idle_since
        return age > KEEPALIVE_SECONDS or self.connection.has_expired()


class AsyncPool:
    """The same for one event loop."""

    def __init__(self, origin: httpcore.Origin, max_connections: int, tls: TLS) -> None:
        self._origin = origin
        self._tls = tls
        self._idle: deque[_AsyncLink] = deque()
        self._busy: set[_AsyncLink] = set()
        self._closed = False
        self._permits = asyncio.Semaphore(max_connections)
        self._until_loop_ends: AsyncIterator[None] | None = None

    async def send(self, request: httpcore.Request) -> AsyncResponse:
        await self._permit(request.extensions["timeout"]["pool"])
        link = None
        try:
            if self._until_loop_ends is None:
                self._until_loop_ends = self._close_with_loop()
                await self._until_loop_ends.__anext__()
            link = await self._take()
            self._busy.add(link)
            link.line.deadline = request.extensions["deadline"]
            response = await link.connection.handle_async_request(request)
        except BaseException:
            await self.give_back(link, whole=False)
            raise
        return AsyncResponse(self, link, response)

    async def _permit(self, seconds: float | None) -> None:
        if not self._permits.locked():
            await self._permits.acquire()
            return
        try:
            await asyncio.wait_for(self._permits.acquire(), seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
            raise httpcore.PoolTimeout("no connection came free") from None

    async def _close_with_loop(self) -> AsyncIterator[None]:
        # asyncio.run() ends by closing the async generators that are still open: the one moment at
        # which a loop that is about to go says so. Without it the sockets would outlive the loop.
        try:
            yield
        finally:
            await self.aclose()

    async def _take(self) -> _AsyncLink:
        while self._idle:
            link = self._idle.pop()
            if not link.stale:
                return link
            await link.connection.aclose()
        return _AsyncLink(self._origin, self._tls() if self._origin.scheme == b"https" else None)

    async def give_back(self, link: _AsyncLink | None, *, whole: bool = True) -> None:
        """Keep a connection whose answer was read out; end any other."""
        self._permits.release()
        if link is None:
            return
        self._busy.discard(link)
        if whole and link.connection.is_idle() and not self._closed:
            link.idle_since = time.monotonic()
            self._idle.append(link)
            while self._idle and link.idle_since - self._idle[0].idle_since > KEEPALIVE_SECONDS:
                await self._idle.popleft().connection.aclose()
        else:
            await link.connection.aclose()

    async def aclose(self) -> None:
        self._closed = True
        links = [*self._idle, *self._busy]
        self._idle.clear()
        for link in links:
            await link.connection.aclose()


class AsyncResponse:
    def __init__(self, pool: AsyncPool, link: _AsyncLink, response: httpcore.Response) -> None:
        self.status_code = response.status
        self.headers = _joined(response.headers)
        self.extensions = {"line": link.line}
        self._pool = pool
        self._link: _AsyncLink | None = link
        self._response = response

    def aiter_raw(self) -> AsyncIterator[bytes]:
        return self._response.aiter_stream()

    async def aclose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            try:
                await self._response.aclose()
            finally:
                await self._pool.give_back(link)
