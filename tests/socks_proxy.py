"""A proxy that speaks SOCKS 5 with a password, and leads every name to this machine.

with SocksProxy() as proxy:
    monkeypatch.setenv("all_proxy", proxy.url)
"""

from __future__ import annotations

import contextlib
import socket

from tests.connect_proxy import PASSWORD, USER, ConnectProxy, keep_little


class SocksProxy(ConnectProxy):
    """``heads``: of each connection that was asked for, "host:port"."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.url.replace("http://", "socks5://")

    def _connected(self, sock: socket.socket) -> socket.socket | None:
        with contextlib.suppress(OSError), sock.makefile("rb") as asked:
            version, count = asked.read(2)
            if version != 5 or 2 not in asked.read(count):
                sock.sendall(b"\x05\xff")
                return None
            sock.sendall(b"\x05\x02")
            asked.read(1)
            user, password = (asked.read(asked.read(1)[0]).decode() for _ in range(2))
            if (user, password) != (USER, PASSWORD):
                sock.sendall(b"\x01\x01")
                return None
            sock.sendall(b"\x01\x00")
            kind = asked.read(4)[3]
            host = asked.read(asked.read(1)[0]) if kind == 3 else asked.read({1: 4, 4: 16}[kind])
            port = int.from_bytes(asked.read(2), "big")
            self.heads.append(f"{host.decode('latin-1')}:{port}")
            try:
                service = socket.create_connection(("127.0.0.1", port))
            except OSError:
                sock.sendall(b"\x05\x05\x00\x01" + bytes(6))
                return None
            keep_little(service)
            self._sockets.add(service)
            sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
            return service
        return None
