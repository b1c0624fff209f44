"""The base URL of the service: from the argument, the environment or the default, checked before any request."""

from __future__ import annotations

import ipaddress
import os
import re
from functools import lru_cache
from urllib.parse import urlsplit

from lunar_core.errors import ConfigurationError, describe_unexpected

DEFAULT_BASE_URL = "https://api.pureai-api.com"


def resolve_base_url(base_url: str | None, *, allow_http: bool) -> str:
    """``base_url``, else LUNAR_BASE_URL, else the hosted service's URL. Raises ConfigurationError."""
    if base_url is not None:
        return checked_base_url(base_url, allow_http=allow_http)
    named = os.environ.get("LUNAR_BASE_URL")
    try:
        return checked_base_url(named or DEFAULT_BASE_URL, allow_http=allow_http)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (from LUNAR_BASE_URL)") from None


def checked_base_url(url: object, *, allow_http: bool) -> str:
    """``url`` without a trailing slash or ``/v1``; any path before that is kept. Raises ConfigurationError."""
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url: expected a string{describe_unexpected(url)}")
    if not url.strip():
        raise ConfigurationError(
            "base_url: is empty; give a URL, or leave it out for the hosted service's"
        )
    return _service(url.strip(), allow_http=allow_http)


@lru_cache(maxsize=64)  # without it, this is a third of the time to construct a model
def _service(url: str, *, allow_http: bool) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # the form that is sent
    except ValueError as error:
        raise ConfigurationError(f"base_url: {error}") from None
    if parts.username or parts.password:
        raise ConfigurationError("base_url: must not carry a user name or password")
    if parts.scheme not in ("http", "https") or not host:
        fault = "" if "://" in url else "no http:// or https:// in front; "
        raise ConfigurationError(
            f"base_url: {fault}expected https://host[:port][/path], http on loopback"
        )
    if port == 0:
        raise ConfigurationError("base_url: port 0 cannot be connected to")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url: must not have a query or a fragment")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError("base_url: has a space or a control character")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise ConfigurationError(
            "base_url: plain http would send the key unprotected. Use https, "
            "or in a program allow_http=True for a network you trust"
        )
    path = parts.path.rstrip("/")
    endpoint = _ENDPOINT.search(path)
    if endpoint is not None:
        service = f"{parts.scheme}://{parts.netloc}{_without_version(path[: endpoint.start()])}"
        raise ConfigurationError(
            f"base_url: ends in an endpoint's path, {endpoint.group()}; give {service}"
        )
    return f"{parts.scheme}://{parts.netloc}{_without_version(path)}"


def _without_version(path: str) -> str:
    return path.rstrip("/").removesuffix("/v1").rstrip("/")


_ENDPOINT = re.compile(
    r"/v1/(chat|completions|router(/profiles)?|models|providers|pricing(/models)?)$|/chat/completions$"
)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, where plain http leaks nothing."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
