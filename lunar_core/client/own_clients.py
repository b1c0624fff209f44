"""The httpx clients that Lunar and AsyncLunar make for themselves: with our Transport, without cookies.

One client serves all threads, forks and event loops: its transport keeps their connections apart.
"""

from __future__ import annotations

from typing import TypeVar

import httpx

from lunar_core.client.pool import KEEPALIVE_SECONDS
from lunar_core.client.tls import find_proxy
from lunar_core.client.transport import AsyncTransport, Transport
from lunar_core.errors import ConfigurationError
from lunar_core.settings import Settings

T = TypeVar("T", Transport, AsyncTransport)


class OwnClient(httpx.Client):
    """The client that a Lunar makes for itself."""

    def __init__(self, settings: Settings) -> None:
        limits = _limits(settings)
        proxy = find_proxy(settings.base_url)
        mounts = {} if proxy is None else {"all://": _make_proxied(Transport, proxy, limits)}
        super().__init__(transport=Transport(limits=limits), mounts=mounts, trust_env=False)

    @property  # type: ignore[misc]  # httpx's has a setter, too
    def cookies(self) -> httpx.Cookies:
        """A jar that stays empty."""
        return _NO_COOKIES


class OwnAsyncClient(httpx.AsyncClient):
    """The same for asyncio."""

    def __init__(self, settings: Settings) -> None:
        limits = _limits(settings)
        proxy = find_proxy(settings.base_url)
        mounts = {} if proxy is None else {"all://": _make_proxied(AsyncTransport, proxy, limits)}
        self._transports = [AsyncTransport(limits=limits), *mounts.values()]
        super().__init__(transport=self._transports[0], mounts=mounts, trust_env=False)

    @property  # type: ignore[misc]  # httpx's has a setter, too
    def cookies(self) -> httpx.Cookies:
        """A jar that stays empty."""
        return _NO_COOKIES

    async def aclose(self) -> None:
        """Close the connections of this event loop, also if another loop has closed its own before."""
        await super().aclose()
        for transport in self._transports:
            await transport.aclose()


class _NoCookies(httpx.Cookies):
    """A jar that stays empty: a cookie of the service would link the calls of different users."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Take none."""


_NO_COOKIES = _NoCookies()


def _make_proxied(kind: type[T], proxy: str, limits: httpx.Limits) -> T:
    try:
        return kind(proxy=proxy, limits=limits)
    except ConfigurationError as error:
        why = f"the proxy that the environment names cannot be used: {error.message}"
        raise ConfigurationError(why) from None


def _limits(settings: Settings) -> httpx.Limits:
    return httpx.Limits(
        max_connections=settings.max_connections, keepalive_expiry=KEEPALIVE_SECONDS
    )
