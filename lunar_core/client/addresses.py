"""Opens a socket to the first address of a host that answers. Another thread can end the wait: see Interrupt.

The addresses of a host are tried one after the other. While others remain, each gets its share of the time, one second
at most. (asyncio can race addresses, but not on every event loop: uvloop cannot.) An address that did not answer is
tried last for some minutes, so that it costs its share once and not at every new connection. The name is looked up
again for each connection, since a service may balance its load by DNS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import anyio
import httpcore

Address = tuple[Any, Any, int, str, Any]
"""An entry of ``socket.getaddrinfo``: family, type, protocol, canonical name, socket address."""

HEAD_START = 1.0
"""Seconds that one address of a host may have to itself before the next is tried."""
DEAD_SECONDS = 300.0
"""How long an address that did not answer is tried after the others, in seconds."""

_dead: dict[Any, float] = {}
_MOST_DEAD = 1_000


@dataclass(frozen=True)
class Origin:
    """Where a connection leads, and how.

    ``tls``: the TLS context of an https service, else None. ``server_name``: the name that the certificate must show,
    if it is not ``host``. ``proxy``: the proxy that leads there, with its headers and credentials.
    ``is_proxy``: whether the connection leads to the proxy itself.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    local_address: str | None = None
    uds: str | None = None
    socket_options: tuple[Any, ...] = ()
    proxy: httpcore.Proxy | None = None
    is_proxy: bool = False

    @property
    def is_behind_socks(self) -> bool:
        return self.proxy is not None and self.proxy.url.scheme.startswith(b"socks")

    @property
    def is_forwarded(self) -> bool:
        """Whether the proxy forwards each request: a service of http:// needs no tunnel."""
        return self.proxy is not None and self.tls is None and not self.is_behind_socks

    def __str__(self) -> str:
        place = self.uds or f"{self.host}:{self.port}"
        return f"the proxy {place}" if self.is_proxy else place


class Interrupt:
    """Lets ``close()`` in one thread end the wait of another."""

    def __init__(self) -> None:
        self._end: Callable[[], object] | None = None
        self._is_over = False

    def arm(self, end: Callable[[], object]) -> None:
        """From now on ``fire`` calls ``end``. If it has fired already, ``end`` is called at once."""
        self._end = end
        if self._is_over:
            end()

    def check(self) -> None:
        """Raise OSError if ``fire`` was called: a step that has not begun cannot be ended from outside."""
        if self._is_over:
            raise OSError("closed")

    def fire(self) -> None:
        self._is_over = True
        if self._end is not None:
            self._end()


def shut_down(sock: socket.socket) -> None:
    """Shut a socket down while another thread waits for it. Its owner still has to close the descriptor."""
    with suppress(OSError):
        # Not SSLSocket.shutdown, which drops the TLS state that another thread is using.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def connect(origin: Origin, seconds: float | None, interrupt: Interrupt) -> socket.socket:
    """Return a connected socket. Raises OSError; a timeout is a TimeoutError, which is one."""
    ends = end_of(seconds)
    for left, address in _countdown(find_addresses(origin, seconds, interrupt)):
        try:
            return _open(origin, address, _share(ends, left), interrupt)
        except OSError:
            interrupt.check()  # or the address would pass for dead
            _note_dead(address)
            if left == 1:
                raise
    raise OSError("the name has no address")


def find_addresses(origin: Origin, seconds: float | None, interrupt: Interrupt) -> list[Address]:
    """Look up the addresses of a host. Those that did not answer lately come last.

    The look-up runs in a thread of its own, because the system's has no timeout. Raises OSError, or TimeoutError.
    """
    if origin.uds is not None:
        return _unix_socket(origin.uds)
    host, port = origin.host, origin.port
    try:  # an IP address needs no look-up
        return _numeric(host, port)
    except socket.gaierror:
        pass
    answer: SimpleQueue[list[Address] | BaseException] = SimpleQueue()

    def look_up() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001  # raised below, in the waiting thread
            answer.put(error)

    try:
        threading.Thread(target=look_up, daemon=True).start()
    except RuntimeError:  # the interpreter is ending, and starts none any more
        look_up()
    interrupt.arm(lambda: answer.put(OSError("closed")))
    try:
        result = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(result, BaseException):
        raise result
    return dead_last(result)


async def async_connect(origin: Origin, seconds: float | None) -> socket.socket:
    """The same as ``connect``, for asyncio."""
    ends = end_of(seconds)
    for left, address in _countdown(await _async_find(origin, seconds)):
        try:
            return await _async_open(origin, address, _share(ends, left))
        except OSError:
            _note_dead(address)
            if left == 1:
                raise
    raise OSError("the name has no address")


def dead_last(addresses: list[Address]) -> list[Address]:
    """Sort the addresses that did not answer lately behind the others. The order stays otherwise."""
    now = time.monotonic()
    return sorted(addresses, key=lambda address: _dead.get(address[4], 0.0) > now)


def _note_dead(address: Address) -> None:
    if len(_dead) >= _MOST_DEAD:
        _dead.clear()
    _dead[address[4]] = time.monotonic() + DEAD_SECONDS


def _numeric(host: str, port: int) -> list[Address]:
    return dead_last(
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    )


async def _async_find(origin: Origin, seconds: float | None) -> list[Address]:
    if origin.uds is not None:
        return _unix_socket(origin.uds)
    try:  # an IP address needs no look-up, and no thread
        return _numeric(origin.host, origin.port)
    except socket.gaierror:
        pass
    with anyio.fail_after(seconds):
        loop = asyncio.get_running_loop()
        return dead_last(await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM))


def _unix_socket(path: str) -> list[Address]:
    return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)]


def _open(
    origin: Origin, address: Address, seconds: float | None, interrupt: Interrupt
) -> socket.socket:
    sock = _socket(origin, address)
    try:
        interrupt.arm(lambda: shut_down(sock))
        interrupt.check()
        sock.settimeout(seconds)
        sock.connect(address[4])
    except BaseException:
        sock.close()
        raise
    return sock


async def _async_open(origin: Origin, address: Address, seconds: float | None) -> socket.socket:
    sock = _socket(origin, address)
    try:
        sock.settimeout(0)  # not blocking, as ``sock_connect`` requires
        # asyncio.wait_for would lose a cancellation, or a connection, that comes with the answer.
        with anyio.fail_after(seconds):
            await asyncio.get_running_loop().sock_connect(sock, address[4])
    except BaseException:
        sock.close()
        raise
    return sock


def _socket(origin: Origin, address: Address) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    try:
        if family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if origin.local_address is not None:
                sock.bind((origin.local_address, 0))
        for option in origin.socket_options:
            sock.setsockopt(*option)
    except BaseException:
        sock.close()
        raise
    return sock


def _countdown(addresses: list[Address]) -> Iterator[tuple[int, Address]]:
    """Each address with the number of addresses that are left, itself included: (2, a), (1, b)."""
    return zip(range(len(addresses), 0, -1), addresses, strict=True)


def end_of(seconds: float | None) -> float | None:
    """The moment ``seconds`` from now, by ``time.monotonic``; None if there is no limit."""
    return None if seconds is None else time.monotonic() + seconds


def _share(ends: float | None, left: int) -> float | None:
    """Seconds that the next of ``left`` addresses may take to answer."""
    rest = None if ends is None else max(ends - time.monotonic(), 0.001)
    if left == 1:
        return rest
    return HEAD_START if rest is None else min(rest / left, HEAD_START)
