"""Transport and AsyncTransport: fast connections below any httpx client.

Both are httpx's own transports, so that whatever patches those, or httpcore's pools below them, sees each request.
``_pool`` is the one private name of httpx's that is used here: tests/core/test_transport.py says with which versions
that was seen to work.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict
from weakref import WeakKeyDictionary

import httpcore
import httpx
from typing_extensions import Unpack

from lunar_core.checks import checked_count
from lunar_core.client.pool import AsyncPool, Options, Pool
from lunar_core.errors import ConfigurationError

_REFUSED = {
    "cert": "put it into the ssl.SSLContext that verify= takes",
    "http1": "HTTP/1.1 is what these connections speak",
    "http2": "HTTP/1.1 is what these connections speak",
    "retries": "Lunar retries by itself: max_retries=",
    "trust_env": "give what the environment names: verify=, proxy=",
}


class TransportOptions(TypedDict, total=False):
    """The options of a transport beside ``verify``. All but ``limits`` mean what they mean in httpx.

    ``proxy``: its URL (http, https, socks5), or an ``httpx.Proxy``. ``uds``: the path of a Unix socket.
    """

    limits: httpx.Limits | None
    proxy: httpx.Proxy | httpx.URL | str | None
    local_address: str | None
    uds: str | None
    socket_options: Sequence[Any] | None


class Transport(httpx.HTTPTransport):
    """Lunar's connections below an ``httpx.Client`` of your own.

    ``verify``: an ``ssl.SSLContext``, also for certificates of your own (mTLS). Default: the process's, which follows
    SSL_CERT_FILE and SSL_CERT_DIR. ``options``: see TransportOptions. Each forked process and each copy has connections
    of its own. A pickle carries the options; with an ``ssl.SSLContext`` among them, pickling raises TypeError. Raises
    ConfigurationError for an option that does not apply here.

    >>> import httpx, ssl
    >>> own = httpx.Client(transport=Transport(ssl.create_default_context()), trust_env=False)
    >>> client = Lunar(http_client=own)
    >>> client.models.list()[0].id
    'gpt-4o'
    """

    def __init__(
        self,
        verify: object = True,  # noqa: FBT002  # positional in httpx.HTTPTransport
        **options: Unpack[TransportOptions],
    ) -> None:
        self._options = _check_options(verify, **options)
        self._pools: dict[int, Pool] = {}

    @property
    def _pool(self) -> Pool:  # type: ignore[override]  # httpx sets it once; here each process has its own
        """The connections of this process: what httpx hands each request to."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            # Threads may get here together: setdefault keeps one, and the others' hold nothing yet.
            pool = self._pools.setdefault(pid, Pool(self._options))
        return pool

    def __getstate__(self) -> Options:
        return self._options

    def __setstate__(self, options: Options) -> None:
        self._options = options
        self._pools = {}

    def close(self) -> None:
        """End the connections of this process, and the waits of other threads for them."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()


class AsyncTransport(httpx.AsyncHTTPTransport):
    """The same below an ``httpx.AsyncClient``. Each event loop has connections of its own.

    >>> import asyncio, httpx
    >>> async def main():
    ...     async with httpx.AsyncClient(transport=AsyncTransport(), trust_env=False) as own:
    ...         models = await AsyncLunar(http_client=own).models.list()
    ...     return models[0].id
    >>> asyncio.run(main())
    'gpt-4o'
    """

    def __init__(
        self,
        verify: object = True,  # noqa: FBT002  # positional in httpx.HTTPTransport
        **options: Unpack[TransportOptions],
    ) -> None:
        self._options = _check_options(verify, **options)
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncPool] = WeakKeyDictionary()

    @property
    def _pool(self) -> AsyncPool:  # type: ignore[override]  # httpx sets it once; here each event loop has its own
        """The connections of this event loop: what httpx hands each request to."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            self._drop_pools_of_closed_loops()
            pool = self._pools[loop] = AsyncPool(self._options)
        return pool

    def _drop_pools_of_closed_loops(self) -> None:
        """End the connections of loops that were closed without asyncio.run(): those hold their loops."""
        for reference in self._pools.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                pool = self._pools.pop(loop, None)
                if pool is not None:
                    pool.abort()

    def __getstate__(self) -> Options:
        return self._options

    def __setstate__(self, options: Options) -> None:
        self._options = options
        self._pools = WeakKeyDictionary()

    async def aclose(self) -> None:
        """End the connections of this event loop. Those of others end with their loops."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()


def _check_options(
    verify: object,
    *,
    limits: httpx.Limits | None = None,
    proxy: httpx.Proxy | httpx.URL | str | None = None,
    local_address: str | None = None,
    uds: str | None = None,
    socket_options: Sequence[Any] | None = None,
    **unknown: object,
) -> Options:
    for name in unknown:
        why = _REFUSED.get(name, "there is no such option")
        raise ConfigurationError(f"{name}: does not apply to Lunar's transport: {why}")
    if uds is not None and proxy is not None:
        raise ConfigurationError("uds: does not apply beside proxy=, which has an address")
    if uds is not None and local_address is not None:
        raise ConfigurationError(
            "local_address: does not apply beside uds=, which has no such address"
        )
    return Options(
        verify=_context(verify),
        **_bounds(limits),
        proxy=None if proxy is None else _proxy(proxy),
        local_address=_address(local_address, "local_address"),
        uds=_address(uds, "uds"),
        socket_options=_socket_options(socket_options),
    )


def _address(value: object, name: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(f"{name}: expected a string that is not empty")


def _bounds(limits: httpx.Limits | None) -> dict[str, Any]:
    """The fields of Options that ``limits`` sets."""
    if limits is None:
        return {}
    if not isinstance(limits, httpx.Limits):
        raise ConfigurationError("limits: expected httpx.Limits")
    most, idle = limits.max_connections, limits.max_keepalive_connections
    expiry: object = limits.keepalive_expiry
    bounds: dict[str, Any] = {"keepalive": math.inf}
    if most is not None:
        bounds["max_connections"] = checked_count(most, "limits.max_connections", least=1)
    if idle is not None:
        bounds["max_idle"] = checked_count(idle, "limits.max_keepalive_connections")
    if expiry is not None:
        if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or not expiry >= 0:
            raise ConfigurationError("limits.keepalive_expiry: expected seconds, 0 or more")
        bounds["keepalive"] = expiry
    return bounds


def _socket_options(options: Sequence[Any] | None) -> tuple[Any, ...]:
    """``options``, if each can be given to ``socket.setsockopt``: (level, option, value), or with a length behind."""
    if options is None:
        return ()
    if not isinstance(options, Iterable):
        raise ConfigurationError("socket_options: expected a list of tuples")
    checked = tuple(options)
    if not all(isinstance(option, tuple) and len(option) in (3, 4) for option in checked):
        raise ConfigurationError(
            "socket_options: expected tuples of three or four, as setsockopt takes them"
        )
    return checked


def _context(verify: object) -> ssl.SSLContext | None:
    if verify is True or verify is None:
        return None
    if not isinstance(verify, ssl.SSLContext):
        raise ConfigurationError(
            f"verify: expected an ssl.SSLContext, not {verify!r}: certificates are always checked, and a context says "
            "against which authorities"
        )
    verify.set_alpn_protocols(["http/1.1"])
    return verify


def _proxy(proxy: httpx.Proxy | httpx.URL | str) -> httpcore.Proxy:
    try:
        named = proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(proxy)
    except (ValueError, TypeError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"proxy: cannot be used: {error}") from None
    url = named.url
    if not url.host:
        raise ConfigurationError("proxy: cannot be used: it names no host")
    return httpcore.Proxy(
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        auth=named.raw_auth,
        headers=named.headers.raw,
        ssl_context=named.ssl_context,
    )
