r"""A server of raw bytes that fails exactly as a test says.

It knows sockets and little of HTTP: each request is read completely and recorded, then the next
answer of the script is played. An answer is one step or several (`tests.faults_steps`), and a step
does one thing to the connection: sends bytes, waits for an event of a test, hangs, closes, resets.

    with FaultServer() as server:
        server.script(reply(503), [b"HTTP/1.1 200 OK\r\n", reset], reply(json=completion("hello")))
        ...
        assert server.models == ["m", "m", "m"]
        server.wait_until(lambda: server.open == 0, within=1)
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

Step: TypeAlias = "bytes | Callable[[Connection], None]"
Answer: TypeAlias = "Step | Iterable[Step]"

OUT_OF_SCRIPT = b"HTTP/1.1 418 The script has no more answers\r\ncontent-length: 0\r\n\r\n"


class Over(Exception):  # noqa: N818 – an end, not an error
    """The connection is finished: a step ended it, the peer left, or the server is closing."""


@dataclass(frozen=True)
class Request:
    """What arrived, to the byte."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        """The header's value, or None; names are compared without case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One accepted socket, as the steps see it."""

    def __init__(self, server: FaultServer, sock: socket.socket, number: int) -> None:
        self.server, self.sock, self.number = server, sock, number
        self.chunked = False  # set by a step that began a chunked body: send() then frames
        self._read = bytearray()

    def play(self, answer: Answer) -> None:
        for step in [answer] if isinstance(answer, bytes) or callable(answer) else answer:
            if isinstance(step, bytes):
                self.send(step)
            else:
                step(self)
        if self.chunked:
            self.send_raw(b"0\r\n\r\n")
            self.chunked = False

    def send(self, data: bytes) -> None:
        """Send one piece of the answer; in a chunked body, as one chunk."""
        self.send_raw(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def send_raw(self, data: bytes) -> None:
        for start in range(0, len(data), 65_536):
            piece = data[start : start + 65_536]  # so that `sent` is true while this blocks
            self.sock.sendall(piece)
            self.server.sent += len(piece)

    def wait(self, ready: Callable[[], bool] | None = None) -> None:
        """Return once `ready()`, or never; the connection is over as soon as the peer leaves."""
        while not (ready and ready()):
            if ready is None or self._has_arrived(within=0.005):
                self._receive()

    def ignore(self) -> None:
        """Read nothing, so that a peer who writes much is stuck, until it leaves."""
        left = select.poll()
        left.register(self.sock, select.POLLRDHUP)
        left.poll()
        raise Over

    def read_request(self) -> Request:
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            self._receive()
        first, *lines = self._take(end + 4).decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _version = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = tuple((key, value.strip()) for key, _, value in pairs)
        length = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
        while len(self._read) < length:
            self._receive()
        return Request(method, path, headers, self._take(length), self.number)

    def reset(self) -> None:
        """Have the socket say RST, not FIN, when it is closed."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hang_up(self) -> None:
        """End whatever the connection's thread is waiting for."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own: that one drops the TLS state under the feet of the other thread.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _receive(self) -> None:
        data = self.sock.recv(262_144)
        if not data:
            raise Over
        self._read += data

    def _has_arrived(self, within: float) -> bool:
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        arrived = select.poll()  # select.select can't take descriptors past 1,023
        arrived.register(self.sock, select.POLLIN)
        return bool(arrived.poll(within * 1_000))


class FaultServer:
    """Listens on 127.0.0.1, one thread a connection, and does as it is told.

    `requests` are all requests so far, in order of arrival; `open` and `total` count connections,
    `sent` counts bytes. What nothing answers gets 418, which no client retries.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.total = self.sent = 0
        self._tls = tls
        self._script: deque[Answer] = deque()
        self._greetings: deque[Answer] = deque()
        self._otherwise: Callable[[Request], Answer] = lambda _request: OUT_OF_SCRIPT
        self._live: dict[int, Connection] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    # What a test says

    def script(self, *answers: Answer) -> None:
        """Answer the next requests with these, one each, whichever connection they come on."""
        with self._changed:
            self._script.extend(answers)

    def always(self, answer: Answer) -> None:
        """Answer every request for which the script has nothing with this."""
        self.decide(lambda _request: answer)

    def decide(self, rule: Callable[[Request], Answer]) -> None:
        """Answer every request for which the script has nothing with what `rule` returns for it."""
        self._otherwise = rule

    def greet(self, *answers: Answer) -> None:
        """Do this to the next connections, one each, before anything is read from them."""
        with self._changed:
            self._greetings.extend(answers)

    def hang_up(self) -> None:
        """Close every connection, whatever it is doing."""
        with self._changed:
            for connection in self._live.values():
                connection.hang_up()

    # What a test sees

    @property
    def open(self) -> int:
        return len(self._live)

    @property
    def bodies(self) -> list[Any]:
        return [request.json for request in self.requests]

    @property
    def models(self) -> list[str]:
        """The models asked for, in order."""
        return [body["model"] for body in self.bodies]

    def wait_until(self, condition: Callable[[], bool], *, within: float = 2.0) -> None:
        """Return as soon as `condition()`; fail when that takes longer than `within` seconds."""
        deadline = time.monotonic() + within
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, (
                    f"not within {within} s: the server saw {len(self.requests)} requests, "
                    f"{self.open} of {self.total} connections open"
                )
                self._changed.wait(min(left, 0.02))  # the condition may be about more than us

    # Its life

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(
            OSError
        ):  # where this does not wake the acceptor, its timeout does
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # no connection comes after this
        self._listener.close()
        self.hang_up()
        for thread in self._threads[1:]:
            thread.join()

    def _start(self, task: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=task, args=args, name="faults", daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while not self._closing:
            with contextlib.suppress(OSError):  # nobody came, or whoever came has left again
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls:
                    sock = self._tls.wrap_socket(
                        sock, server_side=True, do_handshake_on_connect=False
                    )
                with self._tell():
                    self.total += 1
                    connection = self._live[self.total] = Connection(self, sock, self.total)
                self._start(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        # OSError, ValueError: the handshake failed, the peer has gone, a request is no HTTP.
        with contextlib.suppress(Over, OSError, ValueError), connection.sock:
            try:
                self._converse(connection)
            finally:
                connection.sock.close()
                with self._tell():
                    del self._live[connection.number]

    def _converse(self, connection: Connection) -> None:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        with self._changed:
            greeting = self._greetings.popleft() if self._greetings else ()
        connection.play(greeting)
        while True:
            request = connection.read_request()
            with self._tell():
                self.requests.append(request)
                answer = self._script.popleft() if self._script else self._otherwise(request)
            connection.play(answer)

    @contextlib.contextmanager
    def _tell(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()


@contextlib.contextmanager
def nobody_accepts() -> Iterator[str]:
    """The origin of a listener whose backlog is full: connecting to it times out."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        while True:
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(address)
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{address[1]}"


def nobody_listens() -> str:
    """The origin of a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
