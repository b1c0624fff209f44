"""A proxy that speaks CONNECT alone, wants credentials, and leads every name to this machine.

    with ConnectProxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)

When one half of a tunnel ends, however, the other ends, too.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

USER, PASSWORD = "walter", "p%ss w@rd"


class ConnectProxy:
    """``heads``: of each CONNECT that came, as text."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.heads: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{USER}:p%25ss%20w%40rd@127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _start(self, task: object, *args: object) -> None:
        self._threads.append(threading.Thread(target=task, args=args, daemon=True))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._lead(sock)

    def _lead(self, sock: socket.socket) -> None:
        self._sockets.add(sock)
        try:
            keep_little(sock)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            service = self._connected(sock)
            if service is not None:
                self._start(self._relay, service, sock)
                self._relay(sock, service)
        finally:
            sock.close()
            self._sockets.discard(sock)

    def _connected(self, sock: socket.socket) -> socket.socket | None:
        head = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                data = sock.recv(65_536)
                if not data:
                    return None
                head += data
            text = head.decode("latin-1")
            self.heads.append(text)
            credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if f"proxy-authorization: basic {credentials}".lower() not in text.lower():
                sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return None
            port = int(text.split(" ", 2)[1].rpartition(":")[2])
            try:
                service = socket.create_connection(("127.0.0.1", port))
            except OSError:
                sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return None
            return self._joined(sock, service, b"HTTP/1.1 200 Connection established\r\n\r\n")
        return None

    def _joined(self, sock: socket.socket, service: socket.socket, answer: bytes) -> socket.socket:
        """The service, once who asked has been told that it is there. Raises OSError if he has left."""
        keep_little(service)
        self._sockets.add(service)
        try:
            sock.sendall(answer)
        except OSError:
            service.close()
            self._sockets.discard(service)
            raise
        return service

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._sockets.discard(source)
        source.close()


def keep_little(sock: socket.socket) -> None:
    """Pass on at once what comes, so that who writes is not told it was taken before it was."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, buffer, 65_536)
