"""How a connection of our own is opened: TCP, perhaps a proxy's tunnel, perhaps TLS.

The tunnel is ours, and not httpcore's, because after it the bytes must be: httpcore takes what a server says unasked
behind an answer for the next answer.
"""

from __future__ import annotations

import httpcore

from lunar_core.client.addresses import Interrupt, Origin
from lunar_core.client.http11 import Exchange, Head, Request
from lunar_core.client.sockets import AsyncioStream, Deadline, SocketStream


def open_stream(
    origin: Origin, deadline: Deadline, interrupt: Interrupt, timeout: float | None
) -> SocketStream:
    """A stream to the service. ``timeout``: seconds for each of its steps, or None. Raises httpcore's errors."""
    proxy = _origin_of(origin.tunnel)
    stream = SocketStream(proxy or origin, deadline, interrupt, timeout)
    try:
        if origin.tunnel is not None:
            exchange = Exchange()
            for piece in exchange.written(_connect(origin, origin.tunnel)):
                stream.write(piece, timeout)
            while (head := exchange.take_head(stream.read(timeout=timeout))) is None:
                pass
            _check(head, exchange)
        if origin.tls is not None:
            stream.start_tls(origin.tls, origin.server_name or origin.host, timeout)
    except BaseException:
        stream.close()
        raise
    return stream


async def async_open_stream(
    origin: Origin, deadline: Deadline, timeout: float | None
) -> AsyncioStream:
    """The same for asyncio."""
    proxy = _origin_of(origin.tunnel)
    stream = await AsyncioStream.connect(proxy or origin, deadline, timeout)
    try:
        if origin.tunnel is not None:
            exchange = Exchange()
            for piece in exchange.written(_connect(origin, origin.tunnel)):
                await stream.write(piece, timeout)
            while (head := exchange.take_head(await stream.read(timeout=timeout))) is None:
                pass
            _check(head, exchange)
        if origin.tls is not None:
            await stream.start_tls(origin.tls, origin.server_name or origin.host, timeout)
    except BaseException:
        stream.abort()
        raise
    return stream


def _origin_of(proxy: httpcore.Proxy | None) -> Origin | None:
    if proxy is None:
        return None
    return Origin(proxy.url.host.decode("ascii"), proxy.url.origin.port)


def _connect(origin: Origin, proxy: httpcore.Proxy) -> Request:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode("ascii")
    return Request(b"CONNECT", target, [(b"host", target), *proxy.headers], b"")


def _check(head: Head, exchange: Exchange) -> None:
    """Whether the tunnel stands. What a proxy has sent behind its head would be read as TLS."""
    if not 200 <= head.status < 300:
        raise httpcore.ProxyError(
            f"the proxy answered {head.status} {head.reason.decode('latin-1')}"
        )
    if exchange.came_with_head:
        raise httpcore.ProxyError("the proxy says more than it was asked")
