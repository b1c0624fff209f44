"""TLS contexts and proxies, as the environment sets them."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from lunar_core.base_url import is_loopback
from lunar_core.errors import ConfigurationError


def find_proxy(base_url: str) -> str | None:
    """The URL of the proxy that the environment names for this service, or None.

    Always None for this machine itself: plain http to it is allowed because it does not leave the machine.
    """
    parts = urlsplit(base_url)
    proxies, host = getproxies(), parts.hostname or ""
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(host) or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def tls_context() -> ssl.SSLContext:
    """The TLS context of the whole process, since each costs 20 ms and 1 MB. Follows SSL_CERT_FILE and SSL_CERT_DIR.

    The cache also depends on the class ``ssl.SSLContext``: gevent and truststore replace it, perhaps after a first
    call.
    """
    named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return _tls_context(*named, ssl.SSLContext)


@lru_cache(maxsize=4)
def _tls_context(cert_file: str | None, cert_dir: str | None, _kind: type) -> ssl.SSLContext:
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
