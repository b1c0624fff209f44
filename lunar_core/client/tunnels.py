"""The dialogue with a proxy that opens a tunnel: CONNECT of HTTP, or SOCKS 5. Pure.

A dialogue is a generator: it yields the bytes to write (b"" for none), and is sent the bytes that were read. It raises
httpcore's ProxyError if the proxy refuses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator

import httpcore
import httpx

from lunar_core.client.http11 import Exchange, Request

Dialogue = Generator[bytes, bytes, None]

# RFC 1928, section 6
_SOCKS_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the service refused the connection",
    6: "the packet's time was over",
    7: "it knows no CONNECT",
    8: "it does not know this kind of address",
}


def connect_dialogue(proxy: httpcore.Proxy, host: str, port: int) -> Dialogue:
    """Open a tunnel by CONNECT (RFC 9110, section 9.3.6)."""
    exchange = Exchange()
    target = f"{_bracket(host)}:{port}".encode("ascii")
    request = Request(b"CONNECT", target, [(b"host", target), *proxy.headers], b"")
    words = b"".join(exchange.encode(request))
    head = None
    while head is None:
        received = yield words
        words = b""
        try:
            head = exchange.take_head(received)
        except httpcore.RemoteProtocolError:
            why = "does not speak HTTP" if received else "hung up"
            raise httpcore.ProxyError(f"the proxy {why}") from None
    if not 200 <= head.status < 300:
        # The usual phrase, not the proxy's: it may quote there the credentials that it was sent.
        phrase = httpx.codes.get_reason_phrase(head.status)
        raise httpcore.ProxyError(f"the proxy answered {head.status} {phrase}".rstrip())
    if exchange.came_with_head:  # it would be read as TLS
        raise _says_more()


def socks_dialogue(proxy: httpcore.Proxy, host: str, port: int) -> Dialogue:
    """Open a tunnel by SOCKS 5 (RFC 1928), with a password if there is one (RFC 1929).

    The proxy looks the host's name up.
    """
    methods = b"\x00" if proxy.auth is None else b"\x00\x02"
    answer = yield from _ask(b"\x05%c%b" % (len(methods), methods), 2)
    if answer[:1] != b"\x05":
        raise httpcore.ProxyError("the proxy does not speak SOCKS 5")
    if answer == b"\x05\x02" and proxy.auth is not None:
        user, password = proxy.auth
        answer = yield from _ask(b"\x01%b%b" % (_with_length(user), _with_length(password)), 2)
        if answer[1:] != b"\x00":
            raise httpcore.ProxyError("the proxy refused the user or the password")
    elif answer != b"\x05\x00":
        raise httpcore.ProxyError("the proxy wants credentials, or some of another kind")
    answer = yield from _ask(b"\x05\x01\x00%b%b" % (_socks_host(host), port.to_bytes(2, "big")), 5)
    if answer[1] != 0:
        why = _SOCKS_REFUSALS.get(answer[1], f"code {answer[1]}")
        raise httpcore.ProxyError(f"the proxy made no connection: {why}")
    size = {1: 10, 3: 7 + answer[4], 4: 22}.get(answer[3], 0)
    answer += yield from _ask(b"", size - len(answer))
    if len(answer) > size:
        raise _says_more()


def _ask(question: bytes, size: int) -> Generator[bytes, bytes, bytes]:
    """Ask and return an answer of ``size`` bytes, or of more if more came with it."""
    answer = b""
    while len(answer) < size:
        received = yield question
        if not received:
            raise httpcore.ProxyError("the proxy hung up")
        question, answer = b"", answer + received
    return answer


def _socks_host(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\x03" + _with_length(host.encode("ascii"))
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _with_length(text: bytes) -> bytes:
    if len(text) > 255:
        raise httpcore.ProxyError("SOCKS carries no name or password of more than 255 bytes")
    return b"%c%b" % (len(text), text)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _says_more() -> httpcore.ProxyError:
    return httpcore.ProxyError("the proxy says more than it was asked")
