"""The server of ``loopback.py`` over TLS, and a proxy that leads there by CONNECT, in a process of their own.

Whatever name the proxy is asked for, it leads to this machine: our client uses none for services on it. The process
writes its authority's certificate to the path that it is started with, prints both ports, and ends when its standard
input does.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import trustme
from loopback import Server

NAME = "service.example"


class Tunnel(asyncio.Protocol):
    """One end of a tunnel. ``far``: the other end, once it is connected."""

    def __init__(self, far: asyncio.Transport | None = None) -> None:
        self.far = far
        self.near: asyncio.Transport
        self.head = b""
        self.opening: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.near = transport  # type: ignore[assignment]  # of a socket

    def data_received(self, data: bytes) -> None:
        if self.far is not None:
            self.far.write(data)
            return
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            self.opening = asyncio.create_task(self.open(self.head.split()[1].decode()))

    async def open(self, target: str) -> None:
        """Connect the tunnel to the port of ``host:port``."""
        port = int(target.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        self.far, _ = await loop.create_connection(lambda: Tunnel(self.near), "127.0.0.1", port)
        self.near.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.far is not None:
            self.far.close()


async def serve(authority_path: str) -> None:
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context, backlog=2048)
    proxy = await loop.create_server(Tunnel, "127.0.0.1", 0, backlog=2048)
    print(*(one.sockets[0].getsockname()[1] for one in (server, proxy)), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
