"""Checks what stands between this machine and the service: key, URL, proxy, DNS, connection, TLS, answer, clock.

Nothing here is billed, and no character of a key is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import httpcore

from lunar_core.base_url import DEFAULT_BASE_URL, checked_base_url, is_loopback
from lunar_core.client.addresses import Interrupt, Origin, find_addresses
from lunar_core.client.own_clients import OwnClient
from lunar_core.client.sockets import Deadline, SocketStream
from lunar_core.client.sync import Lunar
from lunar_core.client.tls import find_proxy, tls_context
from lunar_core.credentials import Credential
from lunar_core.errors import ConfigurationError, LunarError
from lunar_core.settings import Settings

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0
MOST_CLOCK_SECONDS = 60.0
"""Clocks that are further apart give a warning: tokens and certificates are valid between two moments."""

_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, ConfigurationError)

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The result of one step. ``subject``: one word. ``text``: one short line."""

    subject: str
    status: Status
    text: str


def check_service(base_url: str | None = None) -> Iterator[Finding]:
    """Yield the finding of each step as soon as it is done.

    ``base_url``: default LUNAR_BASE_URL, else the hosted service.

    A step that depends on a failed one is skipped, or left out if nothing can follow.
    """
    key = _check_key()
    yield key
    url = _check_url(base_url)
    yield url
    if url.status == "failed":
        return
    service = checked_base_url(_configured_url(base_url)[0], allow_http=False)
    try:
        proxy = find_proxy(service)
        yield _describe_proxy(proxy)
    except ValueError:  # whose text may hold the proxy's password
        yield Finding("proxy", "failed", "the environment names one whose URL cannot be read")
        return
    is_reachable = yield from _check_connection(service, proxy)
    if key.status == "failed" or not is_reachable:
        yield Finding("service", "skipped", "not asked, because of what failed above")
        return
    yield from _check_answer(service)


def _check_key() -> Finding:
    try:
        credential = Credential.resolve(None, None)
    except ConfigurationError as error:
        return Finding("key", "failed", str(error))
    kind = "an API key" if credential.kind == "api_key" else "a token (JWT)"
    fact = f"{kind}, from {credential.variable}"
    if credential.kind == "api_key" and os.environ.get("LUNAR_JWT", "").strip():
        fact += "; LUNAR_JWT is set too, and not used"
    if credential.kind == "api_key" and not credential.secret().get_secret_value().startswith(
        "pk_"
    ):
        return Finding("key", "warning", f"{fact}; it does not begin with pk_, as Lunar's keys do")
    return Finding("key", "ok", fact)


def _configured_url(base_url: str | None) -> tuple[str, str]:
    """The URL, and the name of the setting that it comes from."""
    if base_url is not None:
        return base_url, "--base-url"
    named = os.environ.get("LUNAR_BASE_URL")
    return (named, "LUNAR_BASE_URL") if named else (DEFAULT_BASE_URL, "the default")


def _check_url(base_url: str | None) -> Finding:
    url, source = _configured_url(base_url)
    try:
        service = checked_base_url(url, allow_http=False)
    except ConfigurationError as error:
        return Finding("URL", "failed", f"{error} (from {source})")
    return Finding("URL", "ok", f"{service}, from {source}")


def _describe_proxy(proxy: str | None) -> Finding:
    if proxy is None:
        return Finding("proxy", "ok", "none for this service")
    parts = urlsplit(proxy)
    login = ", with a login" if parts.username else ""
    return Finding("proxy", "ok", f"{parts.scheme}://{parts.hostname}:{_port_of(parts)}{login}")


def _check_connection(service: str, proxy: str | None) -> Generator[Finding, None, bool]:
    """Check DNS, connection and TLS of the host that we connect to: the proxy if there is one, else the service.

    Returns whether it can be reached.
    """
    parts = urlsplit(service if proxy is None else proxy)
    host, port = parts.hostname or "", _port_of(parts)
    started = time.monotonic()
    try:
        addresses = find_addresses(Origin(host, port), CONNECT_SECONDS, Interrupt())
    except (OSError, UnicodeError) as error:
        words = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
        yield Finding("DNS", "failed", f"{host}: {words}")
        return False
    names = ", ".join(dict.fromkeys(str(address[4][0]) for address in addresses))
    if names != host:
        yield Finding("DNS", "ok", f"{host} is {names} ({_ms_since(started)})")
    started = time.monotonic()
    try:
        stream = SocketStream(Origin(host, port), Deadline(), Interrupt(), CONNECT_SECONDS)
    except _FAILURES as error:
        hint = _hint(str(error), host) if proxy is None else "; that is the proxy"
        yield Finding("connection", "failed", f"{error}{hint}")
        return False
    try:
        whom = "the service" if proxy is None else "the proxy"
        yield Finding("connection", "ok", f"made with {whom} ({_ms_since(started)})")
        if proxy is not None:
            yield Finding("TLS", "skipped", "through the proxy: the service's answer will tell")
        elif parts.scheme == "http":
            yield Finding("TLS", "skipped", "plain http, which stays on this machine")
        else:
            handshake = _check_tls(stream, host)
            yield handshake
            return handshake.status == "ok"
    finally:
        stream.close()
    return True


def _check_tls(stream: SocketStream, host: str) -> Finding:
    started = time.monotonic()
    try:
        tls = stream.start_tls(tls_context(), host, CONNECT_SECONDS).get_extra_info("ssl_object")
    except _FAILURES as error:
        return Finding("TLS", "failed", f"{error}{_hint(str(error), host)}")
    certificate = tls.getpeercert()
    issuer = dict(pair for group in certificate.get("issuer", ()) for pair in group)
    authority = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    trust = f"trusted by {' and '.join(names) or 'the list of certifi'}"
    validity = f"until {certificate.get('notAfter')}"
    return Finding(
        "TLS",
        "ok",
        f"{tls.version()}; certificate of {authority}, {trust}, {validity} ({_ms_since(started)})",
    )


def _hint(words: str, host: str) -> str:
    """What the user should look at next, to append to ``words``."""
    if "certificate verify failed" in words:
        return "; an authority of your own (a company's proxy, say) is named by SSL_CERT_FILE"
    if is_loopback(host):
        return "; is the sandbox running? python -m lunar_core.sandbox"
    return ""


@dataclass
class _Dates:
    """The Date of the service's answer, and our clock before and after it."""

    asked_at: float = field(default_factory=time.time)
    date: str | None = None
    answered_at: float = 0.0

    def listen(self, response: Any) -> None:
        """Called by httpx with each response."""
        self.date, self.answered_at = response.headers.get("date"), time.time()


def _check_answer(service: str) -> Iterator[Finding]:
    dates = _Dates()
    settings = Settings.resolve(base_url=service)
    http = OwnClient(settings)
    http.event_hooks = {"response": [dates.listen]}
    started = time.monotonic()
    with http:
        client = Lunar(
            base_url=service,
            http_client=http,
            max_retries=0,
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
        )
        try:
            models = client.models.list()
        except LunarError as error:
            yield Finding("service", "failed", str(error))
        else:
            count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
            yield Finding(
                "service", "ok", f"GET /v1/models answered with {count} ({_ms_since(started)})"
            )
    if dates.answered_at:
        yield _compare_clocks(dates)


def _compare_clocks(dates: _Dates) -> Finding:
    try:
        theirs = parsedate_to_datetime(dates.date or "").timestamp()
    except ValueError:
        return Finding("clock", "skipped", "the service's answer has no Date to compare it with")
    # A Date is of whole seconds, cut off, and was written at some moment between our two.
    apart = max(0.0, theirs - dates.answered_at) + min(0.0, theirs + 1 - dates.asked_at)
    if abs(apart) <= MOST_CLOCK_SECONDS:
        return Finding("clock", "ok", f"within {max(1, round(abs(apart)))} s of the service's")
    side = "behind" if apart > 0 else "ahead of"
    return Finding(
        "clock", "warning", f"{abs(apart):,.0f} s {side} the service's: set this machine's clock"
    )


def _port_of(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _ms_since(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:,.0f} ms"
