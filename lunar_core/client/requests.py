"""How an APIRequest becomes an HTTP request, of our own pool's or of httpx's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from lunar_core.client.call import Call
from lunar_core.client.http11 import Request
from lunar_core.client.sockets import Origin
from lunar_core.client.tls import tls_context
from lunar_core.settings import Settings, Timeout
from lunar_core.version import __version__
from lunar_core.wire.api_requests import APIRequest

USER_AGENT = f"lunar-integrations/{__version__}"

R = TypeVar("R", bound="HeaderHolder")


class HeaderHolder(Protocol):
    """A request of httpx or httpx2: all that the auth callable needs to know of it."""

    @property
    def headers(self) -> MutableHeaders: ...


class MutableHeaders(Protocol):
    def __setitem__(self, name: str, value: str, /) -> None: ...


class Requests:
    """Builds the requests of one client. What never changes between them is made once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        service = urlsplit(settings.base_url)
        self._is_https = service.scheme == "https"
        usual_port = 443 if self._is_https else 80
        self._host = (service.hostname or "").encode("idna").decode("ascii")
        self._port = service.port or usual_port
        self._path = quote(service.path, safe="/%:@!$&'()*+,;=~")
        named = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = _raw_pair(
            "host", named if self._port == usual_port else f"{named}:{self._port}"
        )
        common = {"user-agent": USER_AGENT, **settings.default_headers}
        # Compressed streams would reach the reader in the compressor's time, not the model's.
        self._plain = _raw(
            {"accept": "application/json", "accept-encoding": "gzip, deflate", **common}
        )
        self._streamed = _raw(
            {"accept": "text/event-stream", "accept-encoding": "identity", **common}
        )

    def authorizer(self, call: Call) -> Callable[[R], R]:
        """What httpx calls with the request just before it is sent: the key is in no header dict before."""

        def authorize(request: R) -> R:
            request.headers.__setitem__(*self._key(call))
            return request

        return authorize

    def _key(self, call: Call) -> tuple[str, str]:
        """The header with the key. The job keeps it, hidden, to find it in what the service answers.

        Nothing here binds the key to a name, so that a traceback with local variables cannot show it.
        """
        credential = self._settings.credential
        call.secret = credential.secret()
        return credential.header(call.secret)

    def origin(self) -> Origin:
        """Where the service is. The first call of an https client makes the context of the whole process."""
        return Origin(self._host, self._port, tls_context() if self._is_https else None)

    def own(self, api_request: APIRequest, timeout: Timeout, call: Call) -> Request:
        """A request for a pool of ours."""
        deadline = None if call.deadline is None else time.monotonic() + call.time_left()
        request = Request(
            method=api_request.method,
            target=self._path + api_request.path,
            headers=[self._host_header, *self._headers(api_request, call.headers)],
            body=api_request.body or b"",
            timeout=timeout,
            deadline=deadline,
        )
        request.headers.append(_raw_pair(*self._key(call)))
        return request

    def foreign(
        self, api_request: APIRequest, timeout: Timeout, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """Keywords of ``build_request`` on an httpx client."""
        return {
            "method": api_request.method,
            "url": self._settings.base_url + api_request.path,
            "headers": self._headers(api_request, headers),
            "content": api_request.body,
            "timeout": (timeout.connect, timeout.read, timeout.write, timeout.pool),
        }

    def _headers(
        self, api_request: APIRequest, extra: Mapping[str, str]
    ) -> list[tuple[bytes, bytes]]:
        raw = self._streamed if api_request.stream else self._plain
        if api_request.body is not None:
            length = str(len(api_request.body)).encode()
            raw = [*raw, (b"content-type", b"application/json"), (b"content-length", length)]
        return _merged(raw, extra)


def _raw_pair(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("ascii"), value.encode("latin-1")


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [_raw_pair(name, value) for name, value in headers.items()]


def _merged(raw: list[tuple[bytes, bytes]], extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    if not extra:
        return raw
    added = _raw(extra)
    names = {name for name, _ in added}
    return [pair for pair in raw if pair[0] not in names] + added


def within(timeout: Timeout, seconds: float) -> Timeout:
    """``timeout`` with no step longer than what is left of the call."""
    if seconds == math.inf:
        return timeout
    seconds = max(seconds, 0.001)
    steps = (min(seconds, step) if step is not None else seconds for step in vars(timeout).values())
    return Timeout(*steps)
