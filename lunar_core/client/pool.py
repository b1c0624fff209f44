"""The connections of one client to the one service it talks to: free lists, sync and async.

httpcore's own pool looks at every connection for every request: with 100 in flight that costs 27
times the server's own time, and its lock can deadlock with the garbage collector. Here a request
takes the connection that came back last, or opens a new one. Permits and free lists are C
structures that a finalizer may touch at any moment; no lock is held around them.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

import httpcore
import httpx

from lunar_core.client.http import Requests, no_cookies, no_tls, tls_context, uses_proxy, within
from lunar_core.client.jobs import Job
from lunar_core.client.sockets import AsyncioBackend, Line, SocketBackend
from lunar_core.errors import ConfigurationError
from lunar_core.settings import Settings
from lunar_core.wire.calls import Call

KEEPALIVE_SECONDS = 30.0


class _Origin:
    """Where all requests of a client go, in httpcore's terms."""

    def __init__(self, url: httpx.URL, tls: Callable[[], ssl.SSLContext]) -> None:
        self._url = url
        self._tls = tls
        self._targets: dict[bytes, httpcore.URL] = {}
        scheme, port = url.raw_scheme, url.port or (443 if url.scheme == "https" else 80)
        self.origin = httpcore.Origin(scheme, url.raw_host, port)

    def tls(self) -> ssl.SSLContext | None:
        return self._tls() if self._url.scheme == "https" else None

    def request(self, request: httpx.Request) -> httpcore.Request:
        path = request.url.raw_path
        url = self._targets.get(path)
        if url is None:
            url = httpcore.URL(
                scheme=self._url.raw_scheme,
                host=self._url.raw_host,
                port=self._url.port,
                target=path,
            )
            if len(self._targets) < 100:  # the paths are few, but their queries may not be
                self._targets[path] = url
        return httpcore.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )


class _Link:
    """One connection, and when it was last used."""

    def __init__(self, origin: _Origin) -> None:
        self.line = Line()
        self.idle_since = 0.0
        self.connection = httpcore.HTTPConnection(
            origin.origin, ssl_context=origin.tls(), network_backend=SocketBackend(self.line)
        )


class Pool(httpx.BaseTransport):
    def __init__(
        self, url: httpx.URL, max_connections: int, tls: Callable[[], ssl.SSLContext]
    ) -> None:
        self._origin = _Origin(url, tls)
        self._idle: deque[_Link] = deque()
        self._busy: set[_Link] = set()
        self._closed = False
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(max_connections):
            self._permits.put(None)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpcore's errors: whoever called through httpx tells them by name."""
        try:
            self._permits.get(timeout=request.extensions["timeout"]["pool"])
        except Empty:
            raise httpx.PoolTimeout("no connection came free") from None
        link = None
        try:
            link = self._take()
            self._busy.add(link)
            link.line.deadline = request.extensions.get("deadline")
            response = link.connection.handle_request(self._origin.request(request))
        except BaseException:
            self._give_back(link, whole=False)
            raise
        stream = _Stream(self, link, response)
        extensions = {**response.extensions, "line": link.line}
        return httpx.Response(
            response.status, headers=response.headers, stream=stream, extensions=extensions
        )

    def _take(self) -> _Link:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if (
                time.monotonic() - link.idle_since < KEEPALIVE_SECONDS
                and not link.connection.has_expired()
            ):
                return link
            link.connection.close()
        return _Link(self._origin)

    def _give_back(self, link: _Link | None, *, whole: bool = True) -> None:
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
        for link in [*self._idle, *self._busy]:
            link.connection.close()
        self._idle.clear()

    def __del__(self) -> None:
        while self._idle:
            self._idle.pop().connection.close()


class _Stream(httpx.SyncByteStream):
    """The body of an answer; closing it gives the connection back, or ends it if the answer was not read out."""

    def __init__(self, pool: Pool, link: _Link, response: httpcore.Response) -> None:
        self._pool = pool
        self._link: _Link | None = link
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            try:
                self._response.close()
            finally:
                self._pool._give_back(link)


class _AsyncLink:
    def __init__(self, origin: _Origin) -> None:
        self.line = Line()
        self.idle_since = 0.0
        self.connection = httpcore.AsyncHTTPConnection(
            origin.origin, ssl_context=origin.tls(), network_backend=AsyncioBackend(self.line)
        )


class AsyncPool(httpx.AsyncBaseTransport):
    """The same for one event loop."""

    def __init__(
        self, url: httpx.URL, max_connections: int, tls: Callable[[], ssl.SSLContext]
    ) -> None:
        self._origin = _Origin(url, tls)
        self._idle: deque[_AsyncLink] = deque()
        self._busy: set[_AsyncLink] = set()
        self._closed = False
        self._permits = asyncio.Semaphore(max_connections)
        self._until_loop_ends: AsyncIterator[None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpcore's errors: whoever called through httpx tells them by name."""
        await self._permit(request.extensions["timeout"]["pool"])
        link = None
        try:
            if self._until_loop_ends is None:
                self._until_loop_ends = self._close_with_loop()
                await self._until_loop_ends.__anext__()
            link = await self._take()
            self._busy.add(link)
            link.line.deadline = request.extensions.get("deadline")
            response = await link.connection.handle_async_request(self._origin.request(request))
        except BaseException:
            await self._give_back(link, whole=False)
            raise
        stream = _AsyncStream(self, link, response)
        extensions = {**response.extensions, "line": link.line}
        return httpx.Response(
            response.status, headers=response.headers, stream=stream, extensions=extensions
        )

    async def _permit(self, seconds: float | None) -> None:
        if not self._permits.locked():
            await self._permits.acquire()
            return
        try:
            await asyncio.wait_for(self._permits.acquire(), seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
            raise httpx.PoolTimeout("no connection came free") from None

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
            if (
                time.monotonic() - link.idle_since < KEEPALIVE_SECONDS
                and not link.connection.has_expired()
            ):
                return link
            await link.connection.aclose()
        return _AsyncLink(self._origin)

    async def _give_back(self, link: _AsyncLink | None, *, whole: bool = True) -> None:
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


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, pool: AsyncPool, link: _AsyncLink, response: httpcore.Response) -> None:
        self._pool = pool
        self._link: _AsyncLink | None = link
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            try:
                await self._response.aclose()
            finally:
                await self._pool._give_back(link)


class Clients:
    """The httpx client to use now: the caller's own, or one of ours per process. Made at first use."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = injected
        self._own: dict[int, httpx.Client] = {}
        self._closed = False

    def send(self, requests: Requests, call: Call, job: Job) -> Any:
        timeout = within(job.timeout, job.time_left())
        if self._injected is not None:
            request = self._injected.build_request(**requests.foreign(call, timeout, job.headers))
            return self._injected.send(
                request, stream=True, auth=requests.authorize, follow_redirects=False
            )
        return self._client().send(
            requests.own(call, timeout, job), stream=True, auth=requests.authorize
        )

    def _client(self) -> httpx.Client:
        client = self._own.get(os.getpid())
        if client is None:
            if self._closed:
                raise ConfigurationError("this client was closed")
            # Threads may get here together: setdefault keeps one, and the others' have opened nothing yet.
            client = self._own.setdefault(os.getpid(), _own_client(self._settings))
        return client

    def close(self) -> None:
        self._closed = True
        while self._own:
            self._own.popitem()[1].close()


class AsyncClients:
    """The same, per event loop."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = injected
        self._own: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, httpx.AsyncClient]] = (
            WeakKeyDictionary()
        )
        self._closed = False

    async def send(self, requests: Requests, call: Call, job: Job) -> Any:
        timeout = within(job.timeout, job.time_left())
        if self._injected is not None:
            request = self._injected.build_request(**requests.foreign(call, timeout, job.headers))
            return await self._injected.send(
                request, stream=True, auth=requests.authorize, follow_redirects=False
            )
        return await self._client().send(
            requests.own(call, timeout, job), stream=True, auth=requests.authorize
        )

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        pid, client = self._own.get(loop, (0, None))
        if client is None or pid != os.getpid():
            if self._closed:
                raise ConfigurationError("this client was closed")
            client = _own_async_client(self._settings)
            self._own[loop] = os.getpid(), client
        return client

    async def aclose(self) -> None:
        """Those of other loops cannot be closed from here: they close as their loops end."""
        self._closed = True
        _, client = self._own.pop(asyncio.get_running_loop(), (0, None))
        if client is not None:
            await client.aclose()


def _own_client(settings: Settings) -> httpx.Client:
    if uses_proxy(settings.base_url):
        return httpx.Client(**_proxied(settings))
    pool = Pool(httpx.URL(settings.base_url), settings.max_connections, tls_context)
    return httpx.Client(transport=pool, trust_env=False, verify=no_tls(), cookies=no_cookies())


def _own_async_client(settings: Settings) -> httpx.AsyncClient:
    if uses_proxy(settings.base_url):
        return httpx.AsyncClient(**_proxied(settings))
    pool = AsyncPool(httpx.URL(settings.base_url), settings.max_connections, tls_context)
    return httpx.AsyncClient(transport=pool, trust_env=False, verify=no_tls(), cookies=no_cookies())


def _proxied(settings: Settings) -> dict[str, Any]:
    """Httpx's own pool where a proxy stands between: it knows how to speak to one, and ours does not."""
    limits = httpx.Limits(
        max_connections=settings.max_connections, keepalive_expiry=KEEPALIVE_SECONDS
    )
    return {"trust_env": True, "verify": tls_context(), "cookies": no_cookies(), "limits": limits}
