"""What connections are told by the environment: certificates and proxies."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from lunar_core.errors import ConfigurationError
from lunar_core.settings import is_loopback


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
