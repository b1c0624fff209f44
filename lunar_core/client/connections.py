"""Whom a client sends its requests through: the caller's own httpx client, our pool, or httpx's.

Ours is the rule. httpx's own stands in where a proxy lies between, which ours cannot speak to, and
while a tool that records or mocks HTTP in tests has replaced httpx's transport: it must see us.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from lunar_core.client.call import Call
from lunar_core.client.pool import KEEPALIVE_SECONDS, AsyncPool, Pool
from lunar_core.client.requests import Requests, within
from lunar_core.client.tls import no_cookies, tls_context, uses_proxy
from lunar_core.errors import ConfigurationError
from lunar_core.settings import Settings
from lunar_core.wire.api_requests import APIRequest

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
C = TypeVar("C", "httpx.Client", "httpx.AsyncClient")

PerLoop = WeakKeyDictionary[asyncio.AbstractEventLoop, T]


class Connections:
    """Of one client. Made at first use, anew in a forked child."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = _checked(injected, "Client", "close")
        self._pools: dict[int, Pool] = {}
        self._through_httpx: dict[int, httpx.Client] = {}
        self._closed = False

    @cached_property
    def _proxied(self) -> bool:
        return uses_proxy(self._settings.base_url)

    def send(self, requests: Requests, api_request: APIRequest, call: Call) -> Any:
        """The answer, its body unread: a Response of ours, of httpx's or of httpx2's."""
        timeout = within(call.timeout, call.time_left())
        client = self._injected
        if client is None and (self._proxied or _is_mocked()):
            client = self._httpx()
        if client is None:
            return self._pool(requests).send(requests.own(api_request, timeout, call))
        request = client.build_request(**requests.foreign(api_request, timeout, call.headers))
        answer = client.send(
            request, stream=True, auth=requests.authorizer(call), follow_redirects=False
        )
        return _Whole(answer) if getattr(answer, "is_stream_consumed", False) else answer

    def _pool(self, requests: Requests) -> Pool:
        pool = self._pools.get(os.getpid())
        if pool is None:
            _refuse_closed(closed=self._closed)
            made = Pool(requests.origin, self._settings.max_connections)
            # Threads may get here together: setdefault keeps one, and the others' hold nothing yet.
            pool = self._pools.setdefault(os.getpid(), made)
        return pool

    def _httpx(self) -> httpx.Client:
        client = self._through_httpx.get(os.getpid())
        if client is None:
            import httpx

            _refuse_closed(closed=self._closed)
            made = _through_proxies(httpx.Client, self._settings)
            client = self._through_httpx.setdefault(os.getpid(), made)
        return client

    def close(self) -> None:
        self._closed = True
        while self._pools:
            self._pools.popitem()[1].close()
        while self._through_httpx:
            self._through_httpx.popitem()[1].close()


class AsyncConnections:
    """The same, per event loop; a forked child has loops of its own."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = _checked(injected, "AsyncClient", "aclose")
        self._pools: PerLoop[AsyncPool] = WeakKeyDictionary()
        self._through_httpx: PerLoop[httpx.AsyncClient] = WeakKeyDictionary()
        self._closed = False

    @cached_property
    def _proxied(self) -> bool:
        return uses_proxy(self._settings.base_url)

    async def send(self, requests: Requests, api_request: APIRequest, call: Call) -> Any:
        """The answer, its body unread: a Response of ours, of httpx's or of httpx2's."""
        timeout = within(call.timeout, call.time_left())
        client = self._injected
        if client is None and (self._proxied or _is_mocked()):
            client = self._httpx()
        if client is None:
            return await self._pool(requests).send(requests.own(api_request, timeout, call))
        request = client.build_request(**requests.foreign(api_request, timeout, call.headers))
        answer = await client.send(
            request, stream=True, auth=requests.authorizer(call), follow_redirects=False
        )
        return _Whole(answer) if getattr(answer, "is_stream_consumed", False) else answer

    def _pool(self, requests: Requests) -> AsyncPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            _refuse_closed(closed=self._closed)
            pool = AsyncPool(requests.origin, self._settings.max_connections)
            self._pools[loop] = pool
        return pool

    def _httpx(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._through_httpx.get(loop)
        if client is None:
            import httpx

            _refuse_closed(closed=self._closed)
            client = _through_proxies(httpx.AsyncClient, self._settings)
            self._through_httpx[loop] = client
        return client

    async def aclose(self) -> None:
        """Those of other loops cannot be closed from here: they close as their loops end."""
        self._closed = True
        loop = asyncio.get_running_loop()
        for owned in (self._pools.pop(loop, None), self._through_httpx.pop(loop, None)):
            if owned is not None:
                await owned.aclose()


class _Whole:
    """An answer that httpx has read and decoded already: one of ``httpx.MockTransport``, or a hook has looked at it."""

    def __init__(self, answer: Any) -> None:
        self.status_code: int = answer.status_code
        self.headers = answer.headers.copy()
        self.headers.pop("content-encoding", None)
        self.extensions: dict[str, Any] = {}
        self._answer = answer

    def iter_raw(self) -> Iterator[bytes]:
        yield self._answer.content

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        yield self._answer.content

    def close(self) -> None:
        self._answer.close()

    async def aclose(self) -> None:
        await self._answer.aclose()


def _checked(injected: Any, kind: str, end: str) -> Any:
    """The caller's own client, if it is one: the wrong of the two kinds would fail late and oddly."""
    needed = ("build_request", "send", end)
    if injected is None or all(callable(getattr(injected, name, None)) for name in needed):
        return injected
    raise ConfigurationError(f"http_client: expected an httpx.{kind} or httpx2.{kind}")


def _through_proxies(kind: type[C], settings: Settings) -> C:
    """A client of httpx's own, which knows the environment's proxies."""
    import httpx

    limits = httpx.Limits(
        max_connections=settings.max_connections, keepalive_expiry=KEEPALIVE_SECONDS
    )
    try:
        return kind(verify=tls_context(), cookies=no_cookies(), limits=limits)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        why = f"the proxy that the environment names cannot be used: {error}"
        raise ConfigurationError(why) from None


def _refuse_closed(*, closed: bool) -> None:
    if closed:
        raise ConfigurationError("this client was closed")


# Where each of these is at home, while nobody has replaced it.
_OF_HTTPX = (
    ("httpx", "HTTPTransport", "handle_request", "httpx._transports.default"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request", "httpx._transports.default"),
    ("httpcore", "ConnectionPool", "handle_request", "httpcore._sync.connection_pool"),
    ("httpcore", "AsyncConnectionPool", "handle_async_request", "httpcore._async.connection_pool"),
)


def _is_mocked() -> bool:
    """Whether vcrpy, pytest-httpx, respx or their like have put something in the place of httpx's methods."""
    return any(
        # Not its __module__, which a stand-in may have taken over with functools.wraps.
        getattr(getattr(where, method), "__globals__", {}).get("__name__") != home
        for package, name, method, home in _OF_HTTPX
        # Not imported, or not to its end in another thread: then nobody can have.
        if (where := getattr(sys.modules.get(package), name, None)) is not None
    )
