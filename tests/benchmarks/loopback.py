"""A server that takes almost no time: it sends ready bytes on a loopback socket, from a process of its own.

The first segment of the path says what comes back, so that every client meets the same bytes
whatever it puts behind its base URL. It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import ClassVar

from hazards import HAZARDS

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


def make_answer(text: str) -> bytes:
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


def frame(data: bytes, size: int = 0) -> bytes:
    """``data`` as HTTP chunks of ``size`` bytes; 0: as one."""
    pieces = [data[at : at + (size or len(data))] for at in range(0, len(data), size or len(data))]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Script:
    """The response to a path: bytes in several writes, with a pause before each."""

    def __init__(self, writes: list[bytes], pause: float = 0.0) -> None:
        self.writes = writes
        self.pause = pause


def make_script(name: str) -> Script:
    """The script of a path's first segment, ``kind-number-number``."""
    kind, *numbers = name.split("-")
    return SCRIPTS[kind](*map(int, numbers))


def _burst(chunks: int) -> Script:
    return Script([STREAM + frame(b"".join(events(chunks)), 16_384) + END])


def _event(read: int, size: int = BIG) -> Script:
    body = event({"content": "x" * size}) + event({}, "stop", USAGE) + b"data: [DONE]\n\n"
    return Script([STREAM + frame(body, read) + END])


def _write_chunks(chunks: int) -> bytes:
    return STREAM + b"".join(map(frame, events(chunks)))


SCRIPTS: dict[str, Callable[..., Script]] = {
    "call": lambda: Script([_whole(make_answer(HELLO))]),
    "wait": lambda millis: Script([_whole(make_answer(HELLO))], millis / 1000),
    "big": lambda: Script([_whole(make_answer("x" * BIG))]),
    # Streams, by the number of chunks. One chunk in each read, as fast as they can be read …
    "each": lambda chunks: Script([_write_chunks(chunks) + END]),
    # … the end in a packet of its own …
    "short": lambda chunks: Script([_write_chunks(chunks), END]),
    # … with a pause before each …
    "drip": lambda chunks, millis: Script(
        [STREAM, *map(frame, events(chunks)), END], millis / 1000
    ),
    # … and many in each read of 16 KiB.
    "burst": _burst,
    "event": _event,  # one event, in reads of so many bytes
    "hazard": lambda number, read: Script([STREAM + frame(HAZARDS[number].body, read) + END]),
}


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
        if name not in Server.scripts:
            Server.scripts[name] = make_script(name)
        script, start = Server.scripts[name], asyncio.get_running_loop().time()
        if script.pause:
            self.schedule(script, 0, start)
        else:
            self.write(script, 0, start)

    def schedule(self, script: Script, number: int, start: float) -> None:
        """Schedule each write at its own time, so that a late one does not delay the others."""
        moment = start + (number + 1) * script.pause
        asyncio.get_running_loop().call_at(moment, self.write, script, number, start)

    def write(self, script: Script, number: int, start: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(script.writes[number])
        if number + 1 < len(script.writes):
            self.schedule(script, number + 1, start)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
