"""HTTP by hand: what these tests say to the sandbox, and read from it, are bytes."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox

KEY = {"x-api-key": "pk_live_abc"}
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Reply:
    """An answer as it came; ``whole`` says whether it came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Read a stream whose every line is ``data: …`` or blank."""
        lines = [line for line in self.body.decode().split("\n") if line]
        assert all(line.startswith("data: ") for line in lines), lines
        data = [line.removeprefix("data: ") for line in lines]
        return [text if text == "[DONE]" else json.loads(text) for text in data]

    def text(self) -> str:
        """Put a stream's text together, of its first choice."""
        choices = [e["choices"][0] for e in self.events() if e != "[DONE]" and e.get("choices")]
        return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


def request(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    """Write a request: ``body`` is bytes, or something to send as JSON."""
    url = urlsplit(sandbox.url)
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    fields = {"host": url.netloc, "connection": "close", "content-length": str(len(content))}
    fields |= KEY if headers is None else headers
    lines = [f"{method} {url.path}{path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def connect(sandbox: Sandbox) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sandbox.port), timeout=30)


def call(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send a request and read its answer to the end of the connection."""
    with connect(sandbox) as sock:
        sock.sendall(request(sandbox, method, path, body, headers))
        received = b""
        while more := sock.recv(65536):
            received += more
    return parse(received)


def get(sandbox: Sandbox, path: str, headers: dict[str, str] | None = None) -> Reply:
    return call(sandbox, "GET", path, headers=headers)


def post(sandbox: Sandbox, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    return call(sandbox, "POST", path, body, headers)


def chat(sandbox: Sandbox, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    """Ask ``/v1/chat/completions``, with what isn't given filled in."""
    return post(
        sandbox,
        "/v1/chat/completions",
        {"model": "gpt-4o-mini", "messages": HELLO, **body},
        {**KEY, **(headers or {})},
    )


def parse(received: bytes) -> Reply:
    """Take an HTTP/1.1 answer apart."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin1").split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") != "chunked":
        return Reply(
            int(status.split()[1]), headers, body, len(body) == int(headers["content-length"])
        )
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return Reply(int(status.split()[1]), headers, content, whole=True)
        content, body = content + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return Reply(int(status.split()[1]), headers, content, whole=False)


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    """Write a tool whose parameters are all required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }
