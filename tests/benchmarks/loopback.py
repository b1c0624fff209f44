"""A server that costs next to nothing: canned bytes on a loopback socket, in a process of its own.

The first segment of the path says what comes back, so that every client meets the same bytes
whatever it puts behind its base URL. It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import ClassVar

HELLO = "Hello from the other side of the loopback. "
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 10,
    "total_tokens": 22,
    "total_cost_usd": 0.000045,
    "latency_ms": 412.5,
    "ttft_ms": 180.0,
}
BIG = 5_000_000


def answer(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return _json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1760000000,
            "model": "gpt-4o-mini",
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    )


def event(delta: dict[str, str], finish: str | None = None, usage: object = None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "gpt-4o-mini",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + _json(chunk if usage is None else {**chunk, "usage": usage}) + b"\n\n"


def events(count: int) -> list[bytes]:
    """``count`` chunks of text, then one with the finish reason and the usage, then [DONE]."""
    first = event({"role": "assistant", "content": WORD})
    # Each word is another: litellm takes a model that repeats itself for broken.
    return [
        first,
        *(event({"content": f" w{number % 900 + 100}"}) for number in range(count - 1)),
        event({}, "stop", USAGE),
        b"data: [DONE]\n\n",
    ]


WORD = " word"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _whole(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def framed(data: bytes, size: int = 0) -> bytes:
    """``data`` as HTTP chunks of ``size`` bytes; 0: as one."""
    pieces = [data[at : at + (size or len(data))] for at in range(0, len(data), size or len(data))]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Script:
    """What a path asks for: bytes, in writes, with a pause before each."""

    def __init__(self, writes: list[bytes], pause: float = 0.0) -> None:
        self.writes = writes
        self.pause = pause


def script(name: str) -> Script:  # noqa: PLR0911  # one line for each kind
    kind, *numbers = name.split("-")
    first, second = [*map(int, numbers), 0, 0][:2]
    if kind == "call":
        return Script([_whole(answer(HELLO))])
    if kind == "wait":  # milliseconds
        return Script([_whole(answer(HELLO))], first / 1000)
    if kind == "drip":  # chunks, milliseconds between them
        return Script([STREAM, *map(framed, events(first)), END], second / 1000)
    if kind == "each":  # chunks, one in each read, as fast as they can be read
        return Script([STREAM + b"".join(map(framed, events(first))) + END])
    if kind == "burst":  # chunks, in reads of 16 KiB
        return Script([STREAM + framed(b"".join(events(first)), 16_384) + END])
    if kind == "short":  # a stream of so many chunks, whose end comes in a packet of its own
        return Script([STREAM + b"".join(map(framed, events(first))), END])
    if kind == "big":
        return Script([_whole(answer("x" * BIG))])
    if kind == "event":  # bytes in a read; bytes of the event, 5 MB if not said
        body = (
            event({"content": "x" * (second or BIG)})
            + event({}, "stop", USAGE)
            + b"data: [DONE]\n\n"
        )
        return Script([STREAM + framed(body, first) + END])
    if kind == "hazard":  # number, bytes per read
        from hazards import HAZARDS

        return Script([STREAM + framed(HAZARDS[first].body, second) + END])
    raise ValueError(name)


class Server(asyncio.Protocol):
    accepted = 0
    scripts: ClassVar[dict[str, Script]] = {}

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.head = b""
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Server.accepted += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.missing -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            lowered = self.head[:end].lower()
            at = lowered.find(b"content-length:")
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.missing = length - (len(self.head) - end - 4)
        if not self.missing:
            name = self.head.split(b"/", 2)[1].split(b" ", 1)[0].decode()
            self.head = b""
            self.respond(name)

    def respond(self, name: str) -> None:
        if name == "connections":
            Server.accepted -= 1  # the one that asks
            self.transport.write(_whole(str(Server.accepted).encode()))
            self.transport.close()
            return
        found = Server.scripts.get(name)
        if found is None:
            found = Server.scripts[name] = script(name)
        self.write(found, 0, pause=found.pause)

    def write(self, found: Script, at: int, pause: float) -> None:
        if pause:
            asyncio.get_running_loop().call_later(pause, self.write, found, at, 0.0)
            return
        if self.transport.is_closing():
            return
        self.transport.write(found.writes[at])
        if at + 1 < len(found.writes):
            loop = asyncio.get_running_loop()
            loop.call_later(found.pause, self.write, found, at + 1, 0.0)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
