"""Turns exceptions of httpx, httpcore, ssl and the system into LunarErrors, and completes errors for the caller.

The caller's own client may be httpx's or httpx2's, whose error classes are recognised by name.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from pydantic import SecretStr

from lunar_core.client.advice import advise, advise_reader
from lunar_core.client.call import Call
from lunar_core.credentials import without_secret
from lunar_core.errors import (
    APIConnectionError,
    APITimeoutError,
    LunarError,
    unsent,
)
from lunar_core.settings import Settings
from lunar_core.wire.api_requests import APIRequest
from lunar_core.wire.headers import read_request_id

T = TypeVar("T")


def as_error(exc: Exception) -> LunarError:
    """The LunarError for an exception of httpx, httpcore, ssl or the system. A LunarError is returned as it is.

    It has no cause: the traceback of the original holds requests, and requests hold the key. Any other exception is a
    bug, here or in a hook of the caller's own client. It is not retried: a retry would hide it, and pay for each
    attempt.
    """
    if isinstance(exc, LunarError):
        return exc
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    names = {cls.__name__ for cls in type(exc).__mro__}
    error: LunarError
    if names & {"TimeoutException", "TimeoutError"}:
        error = APITimeoutError(f"the service did not answer in time ({text})")
    elif isinstance(exc, OSError) or _is_of_http(exc):
        is_unsent = bool(names & _BEFORE_SENDING)
        fault = "the service was not reached" if is_unsent else "no whole answer from the service"
        error = APIConnectionError(f"{fault} ({text})")
    else:
        return _make_bug_error(exc, text)
    return unsent(error) if names & _BEFORE_SENDING else error


# By name, whichever of httpx, httpx2, httpcore or the system raised it. "ProxyError": the proxy made no connection.
_BEFORE_SENDING = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
    "ConnectionRefusedError",
    "gaierror",
}


def _make_bug_error(exc: Exception, text: str) -> LunarError:
    place = _find_place(exc)
    if place.startswith(_HERE):
        return LunarError(
            f"{text}: a bug in Lunar's client, raised at {place}. It was not tried again"
        )
    return LunarError(
        f"{text}: raised by what stands around this client (a hook, a wrapper, a test tool), at {place}, "
        "and no failure of the service. It was not tried again"
    )


_HERE = str(Path(__file__).parents[1])


def _is_of_http(exc: Exception) -> bool:
    """Whether an HTTP library raised it because a request failed. Its RuntimeErrors report misuse."""
    library = {cls.__module__.partition(".")[0] for cls in type(exc).__mro__} & _LIBRARIES
    return bool(library) and not isinstance(exc, RuntimeError)


_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "h2", "anyio", "socksio"}


def _find_place(exc: Exception) -> str:
    """File and line where it was raised, and no more: the variables of the frame may hold the key."""
    *_, (frame, line) = traceback.walk_tb(exc.__traceback__)
    return f"{frame.f_code.co_filename}:{line}"


def strip_frames(error: LunarError) -> LunarError:
    """Remove traceback and causes from ``error`` and return it: their frames hold requests, and so the key."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def complete_error(
    exc: Exception,
    call: Call,
    *,
    request: APIRequest | None = None,
    settings: Settings | None = None,
    headers: Mapping[str, str] | None = None,
) -> LunarError:
    """The error that a request of ``call`` ended in, with what the client knows about it. The key is redacted.

    ``request`` and ``settings``: None if the error ended a stream. ``headers``: those of the response, if one came.
    """
    error = as_error(exc)
    if headers is not None:
        error.request_id = error.request_id or read_request_id(headers)
    if request is not None and settings is not None:
        advise(error, request, settings, call)
    else:
        advise_reader(error, call)
    # A service may echo the key.
    return error if call.secret is None else _redact(error, call.secret)


def _redact(error: LunarError, secret: SecretStr) -> LunarError:
    shown = f"{error.message} {error.request_id} {error.body!r}"
    if without_secret(shown, secret) != shown:
        error.request_id = _without_secret(error.request_id, secret)
        error.message = _without_secret(error.message, secret)
        error.args = (error.message,)
        error.body = _without_secret(error.body, secret)
    return error


def _without_secret(value: T, secret: SecretStr) -> T:
    if isinstance(value, str):
        return cast("T", without_secret(value, secret))
    if isinstance(value, list):
        return cast("T", [_without_secret(item, secret) for item in value])
    if isinstance(value, dict):
        items = value.items()
        return cast("T", {_without_secret(k, secret): _without_secret(v, secret) for k, v in items})
    return value
