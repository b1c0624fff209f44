"""Builds httpx requests from APIRequests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lunar_core.checks import Timeout
from lunar_core.client.call import Call
from lunar_core.settings import Settings
from lunar_core.version import __version__
from lunar_core.wire.api_requests import APIRequest

if TYPE_CHECKING:
    import httpx

_MOST_URLS = 100

USER_AGENT = f"lunar-integrations/{__version__}"

R = TypeVar("R", bound="HeaderHolder")


class HeaderHolder(Protocol):
    """A request of httpx or httpx2: what the authorizer needs of it."""

    @property
    def headers(self) -> MutableHeaders: ...


class MutableHeaders(Protocol):
    def __setitem__(self, name: str, value: str, /) -> None: ...


class RequestBuilder:
    """Builds the requests of one client. What is the same in all of them is made once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._urls: dict[str, httpx.URL] = {}
        common = {"user-agent": USER_AGENT, **settings.default_headers}
        # Compressed streams would reach the reader in the compressor's time, not the model's.
        self._plain = _raw(
            {"accept": "application/json", "accept-encoding": "gzip, deflate", **common}
        )
        self._streamed = _raw(
            {"accept": "text/event-stream", "accept-encoding": "identity", **common}
        )

    def authorizer(self, call: Call) -> Callable[[R], R]:
        """A function that httpx calls just before it sends the request, to add the key. No header holds it before."""

        def authorize(request: R) -> R:
            request.headers.__setitem__(*self._key(call))
            return request

        return authorize

    def _key(self, call: Call) -> tuple[str, str]:
        """The header with the key. The call keeps the key as a SecretStr, to redact it if the service repeats it.

        No local variable holds the key itself: a traceback with local variables cannot show it.
        """
        credential = self._settings.credential
        call.secret = credential.secret()
        return credential.header(call.secret)

    def build(self, api_request: APIRequest, timeout: Timeout, call: Call) -> httpx.Request:
        """Build a request for our own client, without the merging that ``build_request`` does for every request."""
        import httpx

        url = self._url(api_request.path)
        headers = self._headers(api_request, call.headers)
        return httpx.Request(
            api_request.method,
            url,
            headers=[(b"host", url.netloc), *headers],
            content=api_request.body,
            extensions=_extensions(timeout, call),
        )

    def keywords(self, api_request: APIRequest, timeout: Timeout, call: Call) -> dict[str, Any]:
        """The same as keywords for ``build_request`` of an injected client, which adds its own headers and cookies."""
        return {
            "method": api_request.method,
            "url": self._settings.base_url + api_request.path,
            "headers": self._headers(api_request, call.headers),
            "content": api_request.body,
            "extensions": _extensions(timeout, call),
        }

    def _url(self, path: str) -> httpx.URL:
        import httpx

        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MOST_URLS:
                self._urls.clear()
            url = self._urls[path] = httpx.URL(self._settings.base_url + path)
        return url

    def _headers(
        self, api_request: APIRequest, extra: Mapping[str, str]
    ) -> list[tuple[bytes, bytes]]:
        raw = self._streamed if api_request.stream else self._plain
        if api_request.body is not None:
            length = str(len(api_request.body)).encode()
            raw = [*raw, (b"content-type", b"application/json"), (b"content-length", length)]
        return _merge(raw, extra)


def ends_of(call: Call) -> float | None:
    """When the call must be over, by ``time.monotonic``, or None."""
    return None if call.deadline is None else time.monotonic() + call.time_left()


def _extensions(timeout: Timeout, call: Call) -> dict[str, Any]:
    return {"timeout": dict(vars(timeout)), "deadline": ends_of(call)}


def _raw_pair(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("ascii"), value.encode("latin-1")


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [_raw_pair(name, value) for name, value in headers.items()]


def _merge(raw: list[tuple[bytes, bytes]], extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    if not extra:
        return raw
    added = _raw(extra)
    names = {name for name, _ in added}
    return [pair for pair in raw if pair[0] not in names] + added


def within(timeout: Timeout, seconds: float) -> Timeout:
    """``timeout`` with every step cut to ``seconds``, the time that is left of the call."""
    if seconds == math.inf:
        return timeout
    seconds = max(seconds, 0.001)
    steps = (min(seconds, step) if step is not None else seconds for step in vars(timeout).values())
    return Timeout(*steps)
