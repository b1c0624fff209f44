"""Opens a connection: TCP, perhaps a proxy and a tunnel through it, perhaps TLS.

Proxies are spoken to here and not by httpcore, because httpcore takes bytes that a server sends unasked behind a
response for the next response.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import replace

import httpcore

from lunar_core.client.addresses import Interrupt, Origin
from lunar_core.client.nested_tls import AsyncNestedTLSStream, NestedTLSStream
from lunar_core.client.sockets import AsyncioStream, Deadline, SocketStream
from lunar_core.client.tls import tls_context
from lunar_core.client.tunnels import Dialogue, connect_dialogue, socks_dialogue


def open_stream(
    origin: Origin, deadline: Deadline, interrupt: Interrupt, timeout: float | None
) -> SocketStream | NestedTLSStream:
    """Open a stream to the service. ``timeout``: seconds for each step, or None.

    Raises httpcore's errors, of classes that say that no request was sent.
    """
    stream = SocketStream(_first_hop(origin), deadline, interrupt, timeout)
    try:
        return _lead(stream, origin, timeout)
    except BaseException as error:
        stream.close()
        if isinstance(error, _FAILURES):
            raise _as_unsent(error) from None
        raise


def _lead(
    stream: SocketStream, origin: Origin, timeout: float | None
) -> SocketStream | NestedTLSStream:
    """Take ``stream`` on to the service: through the proxy if there is one, then to TLS."""
    outer = _proxy_tls(origin)
    if outer is not None:
        stream.start_tls(*outer, timeout)
    dialogue = _dialogue(origin)
    if dialogue is not None:
        _speak(dialogue, stream, timeout)
    if origin.tls is None:
        return stream
    name = origin.server_name or origin.host
    if outer is None:
        return stream.start_tls(origin.tls, name, timeout)
    nested = NestedTLSStream(stream, origin.tls, name)
    nested.shake_hands(timeout)
    return nested


def _speak(dialogue: Dialogue, stream: SocketStream, timeout: float | None) -> None:
    with suppress(StopIteration):
        words = next(dialogue)
        while True:
            stream.write(words, timeout)
            words = dialogue.send(stream.read(timeout=timeout))


async def async_open_stream(
    origin: Origin, deadline: Deadline, timeout: float | None
) -> AsyncioStream | AsyncNestedTLSStream:
    """The same for asyncio."""
    stream = await AsyncioStream.connect(_first_hop(origin), deadline, timeout)
    try:
        return await _async_lead(stream, origin, timeout)
    except BaseException as error:
        stream.abort()
        if isinstance(error, _FAILURES):
            raise _as_unsent(error) from None
        raise


async def _async_lead(
    stream: AsyncioStream, origin: Origin, timeout: float | None
) -> AsyncioStream | AsyncNestedTLSStream:
    outer = _proxy_tls(origin)
    if outer is not None:
        await stream.start_tls(*outer, timeout)
    dialogue = _dialogue(origin)
    if dialogue is not None:
        await _async_speak(dialogue, stream, timeout)
    if origin.tls is None:
        return stream
    name = origin.server_name or origin.host
    if outer is None:
        return await stream.start_tls(origin.tls, name, timeout)
    nested = AsyncNestedTLSStream(stream, origin.tls, name)
    await nested.shake_hands(timeout)
    return nested


async def _async_speak(dialogue: Dialogue, stream: AsyncioStream, timeout: float | None) -> None:
    with suppress(StopIteration):
        words = next(dialogue)
        while True:
            await stream.write(words, timeout)
            words = dialogue.send(await stream.read(timeout=timeout))


_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


def _as_unsent(error: Exception) -> Exception:
    """``error`` as one of opening a connection: a read that timed out was the proxy's, not the service's."""
    if isinstance(error, (httpcore.ConnectTimeout, httpcore.ConnectError)):
        return error
    if isinstance(error, httpcore.TimeoutException):
        return httpcore.ConnectTimeout(f"the proxy: {error}")
    return httpcore.ProxyError(f"the proxy: {error}")


def _first_hop(origin: Origin) -> Origin:
    if origin.proxy is None:
        return origin
    url = origin.proxy.url
    return replace(origin, host=url.host.decode("ascii"), port=url.origin.port, is_proxy=True)


def _proxy_tls(origin: Origin) -> tuple[ssl.SSLContext, str] | None:
    """The TLS context for a proxy of https://, and the name that its certificate must show. Else None."""
    proxy = origin.proxy
    if proxy is None or proxy.url.scheme != b"https":
        return None
    return proxy.ssl_context or tls_context(), proxy.url.host.decode("ascii")


def _dialogue(origin: Origin) -> Dialogue | None:
    """The dialogue that opens a tunnel. None without a proxy, or if the proxy forwards each request."""
    if origin.proxy is None or origin.is_forwarded:
        return None
    speak = socks_dialogue if origin.is_behind_socks else connect_dialogue
    return speak(origin.proxy, origin.host, origin.port)
