"""How a Call becomes a request, of our own pool's or of httpx's, and how whatever fails below becomes our error.

The caller's own client may be of httpx or of httpx2, whose error classes are told apart by name.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
from pydantic import SecretStr

from lunar_core.client.http11 import Request
from lunar_core.client.jobs import Job
from lunar_core.client.sockets import Origin
from lunar_core.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    LunarError,
)
from lunar_core.settings import Credential, Settings, Timeout, is_loopback
from lunar_core.version import __version__
from lunar_core.wire.calls import Call

USER_AGENT = f"lunar-integrations/{__version__}"

R = TypeVar("R", bound="HeaderHolder")
T = TypeVar("T")


class HeaderHolder(Protocol):
    """A request of httpx or httpx2: all that the auth callable needs to know of it."""

    @property
    def headers(self) -> MutableHeaders: ...


class MutableHeaders(Protocol):
    def __setitem__(self, name: str, value: str, /) -> None: ...


class SyncCloser(Protocol):
    home: tuple[int, asyncio.AbstractEventLoop | None]

    def close(self) -> None: ...


class AsyncCloser(Protocol):
    home: tuple[int, asyncio.AbstractEventLoop | None]

    def leave(self) -> None: ...
    def release(self) -> Coroutine[object, object, None]: ...


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

    def authorizer(self, job: Job) -> Callable[[R], R]:
        """What httpx calls with the request just before it is sent: the key is in no header dict before."""

        def authorize(request: R) -> R:
            request.headers.__setitem__(*self._key(job))
            return request

        return authorize

    def _key(self, job: Job) -> tuple[str, str]:
        """The header with the key. The job keeps it, hidden, to find it in what the service answers.

        Nothing here binds the key to a name, so that a traceback with local variables cannot show it.
        """
        credential = self._settings.credential
        job.secret = credential.secret()
        return credential.header(job.secret)

    def origin(self) -> Origin:
        """Where the service is. The first call of an https client makes the context of the whole process."""
        return Origin(self._host, self._port, tls_context() if self._is_https else None)

    def own(self, call: Call, timeout: Timeout, job: Job) -> Request:
        """A request for a pool of ours."""
        deadline = None if job.deadline is None else time.monotonic() + job.time_left()
        request = Request(
            method=call.method,
            target=self._path + call.path,
            headers=[self._host_header, *self._headers(call, job.headers)],
            body=call.body or b"",
            timeout=timeout,
            deadline=deadline,
        )
        request.headers.append(_raw_pair(*self._key(job)))
        return request

    def foreign(self, call: Call, timeout: Timeout, headers: Mapping[str, str]) -> dict[str, Any]:
        """Keywords of ``build_request`` on an httpx client."""
        return {
            "method": call.method,
            "url": self._settings.base_url + call.path,
            "headers": self._headers(call, headers),
            "content": call.body,
            "timeout": (timeout.connect, timeout.read, timeout.write, timeout.pool),
        }

    def _headers(self, call: Call, extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        raw = self._streamed if call.stream else self._plain
        if call.body is not None:
            length = str(len(call.body)).encode()
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


def as_error(exc: Exception) -> LunarError:
    """Our error for what httpx, httpcore, ssl or the system raised; ours pass through.

    It is raised without its cause: those tracebacks hold requests, and requests hold the key. Any
    other exception is a bug, here or in a hook of the caller's own client: trying again would hide it,
    and pay for each attempt.
    """
    if isinstance(exc, LunarError):
        return exc
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    names = {cls.__name__ for cls in type(exc).__mro__}
    if names & {"TimeoutException", "TimeoutError"}:
        return APITimeoutError(f"the service did not answer in time ({text})")
    if isinstance(exc, OSError) or _is_of_http(exc):
        return APIConnectionError(f"no whole answer from the service ({text})")
    return LunarError(
        f"a bug, and no failure of the service: {text} (raised at {_where(exc)}). It was not tried again"
    )


def _is_of_http(exc: Exception) -> bool:
    """Whether a library that speaks HTTP says that speaking it failed. RuntimeErrors tell of its misuse."""
    library = {cls.__module__.partition(".")[0] for cls in type(exc).__mro__} & _LIBRARIES
    return bool(library) and not isinstance(exc, RuntimeError)


_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "h2", "anyio", "socksio"}


def _where(exc: Exception) -> str:
    """File and line, and no more: a frame's variables may hold the key."""
    *_, (frame, line) = traceback.walk_tb(exc.__traceback__)
    return f"{frame.f_code.co_filename}:{line}"


def bare(error: LunarError) -> LunarError:
    """``error`` without the way it came: those frames hold requests, and requests hold the key."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def explained(error: APIStatusError, call: Call, credential: Credential) -> APIStatusError:
    """``error`` with what the client knows about it and the service did not say."""
    if (
        call.path.startswith("/v1/router")
        and error.status_code in (401, 403)
        and credential.kind == "jwt"
    ):
        error.message += " (the service, as it was observed, takes only an API key here: use api_key= in place of jwt=)"
        error.args = (error.message,)
    return error


def redacted(error: LunarError, sent: SecretStr | None) -> LunarError:
    """``error`` without the key that was sent, in case the service echoed it."""
    return error if sent is None else _redacted(error, sent.get_secret_value())


def _redacted(error: LunarError, secret: str) -> LunarError:
    if len(secret) >= 8 and secret in f"{error.message} {error.request_id} {error.body!r}":
        error.request_id = _without(error.request_id, secret)
        error.message = _without(error.message, secret)
        error.args = (error.message,)
        error.body = _without(error.body, secret)
    return error


def _without(value: T, secret: str) -> T:
    if isinstance(value, str):
        return value.replace(secret, "[redacted]")  # type: ignore[return-value]  # a str for a str
    if isinstance(value, list):
        return [_without(item, secret) for item in value]  # type: ignore[return-value]  # a list for a list
    if isinstance(value, dict):
        return {_without(key, secret): _without(item, secret) for key, item in value.items()}  # type: ignore[return-value]  # a dict for a dict
    return value


def home() -> tuple[int, asyncio.AbstractEventLoop | None]:
    """Where connections opened now belong: to this process, and to the event loop that runs, if any."""
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:
        return os.getpid(), None


def close_now(stream: SyncCloser) -> None:
    """Close a stream that its reader has dropped."""
    if stream.home[0] == os.getpid():  # a forked child must leave its parent's streams alone
        stream.close()


def close_soon(stream: AsyncCloser) -> None:
    """The same for an async stream: on its own loop, since the garbage collector runs in any thread."""
    pid, loop = stream.home
    if pid != os.getpid() or loop is None:
        return
    if loop.is_closed():
        stream.leave()  # its connection went with the loop
    else:
        loop.call_soon_threadsafe(_close_in_loop, loop, stream)


def _close_in_loop(loop: asyncio.AbstractEventLoop, stream: AsyncCloser) -> None:
    stream.leave()
    # A loop that is about to close cancels this; then the connection goes with the loop.
    task = loop.create_task(stream.release())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def uses_proxy(base_url: str) -> bool:
    """Whether the environment names proxies that may apply.

    Never for this machine itself: plain http to it is allowed because it does not leave the machine.
    """
    parts = urlsplit(base_url)
    proxies, host = getproxies(), parts.hostname or ""
    applies = parts.scheme in proxies or "all" in proxies
    return applies and not is_loopback(host) and not proxy_bypass(host)


def tls_context() -> ssl.SSLContext:
    """One context for the whole process: each costs 20 ms and 1 MB. Follows SSL_CERT_FILE and SSL_CERT_DIR."""
    return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    own = cert_file is None and cert_dir is None
    try:
        context = ssl.create_default_context(
            cafile=certifi.where() if own else cert_file, capath=cert_dir
        )
    except OSError as error:  # trying again would find the same file
        named = f"SSL_CERT_FILE={cert_file!r}, SSL_CERT_DIR={cert_dir!r}"
        raise ConfigurationError(f"{named}: no certificates can be read: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def no_cookies() -> CookieJar:
    """A jar that takes none: a cookie of the service's would tie calls of different users together."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
