"""A proxy that speaks SOCKS 5 with a password, and leads every name to this machine.

with SocksProxy() as proxy:
    monkeypatch.setenv("all_proxy", proxy.url)
"""

from __future__ import annotations

import contextlib
import socket
from typing import BinaryIO

from tests.connect_proxy import PASSWORD, USER, ConnectProxy


class SocksProxy(ConnectProxy):
    """``heads``: of each connection that was asked for, "host:port"."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.url.replace("http://", "socks5://")

    def _connected(self, sock: socket.socket) -> socket.socket | None:
        with contextlib.suppress(OSError), sock.makefile("rb") as asked:
            version, count = _exactly(asked, 2)
            if version != 5 or 2 not in _exactly(asked, count):
                sock.sendall(b"\x05\xff")
                return None
            sock.sendall(b"\x05\x02")
            _exactly(asked, 1)
            if (_sized(asked), _sized(asked)) != (USER.encode(), PASSWORD.encode()):
                sock.sendall(b"\x01\x01")
                return None
            sock.sendall(b"\x01\x00")
            kind = _exactly(asked, 4)[3]
            host = _sized(asked) if kind == 3 else _exactly(asked, {1: 4, 4: 16}[kind])
            port = int.from_bytes(_exactly(asked, 2), "big")
            self.heads.append(f"{host.decode('latin-1')}:{port}")
            try:
                service = socket.create_connection(("127.0.0.1", port))
            except OSError:
                sock.sendall(b"\x05\x05\x00\x01" + bytes(6))
                return None
            return self._joined(sock, service, b"\x05\x00\x00\x01" + bytes(6))
        return None


def _exactly(asked: BinaryIO, size: int) -> bytes:
    data = asked.read(size)
    if len(data) < size:
        raise ConnectionAbortedError  # who asked has hung up
    return data


def _sized(asked: BinaryIO) -> bytes:
    return _exactly(asked, _exactly(asked, 1)[0])
