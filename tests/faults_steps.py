"""What a fault server can do to a connection, and the documented answers to do it with.

A step is bytes (sent as one piece) or a function of the connection. `reply` and `sse` make whole
answers of steps; everything else here is a step or makes one. Steps end an answer early by raising
`Over`: what the client then has is what was sent before.
"""

from __future__ import annotations

import functools
import itertools
import json as jsonlib
import time
import zlib
from typing import TYPE_CHECKING, Any

from tests.faults import Answer, Connection, Over, Step

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

DONE = b"data: [DONE]\n\n"
USAGE: dict[str, Any] = {
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "total_tokens": 30,
    "input_cost_usd": 0.000015,
    "output_cost_usd": 0.00003,
    "cache_input_cost_usd": 0.0,
    "total_cost_usd": 0.000045,
    "latency_ms": 523.4,
    "ttft_ms": 89.2,
}

# Steps that end or hold a connection


def close(connection: Connection) -> None:
    """FIN."""
    raise Over


def reset(connection: Connection) -> None:
    """RST."""
    connection.reset()
    raise Over


def hang(connection: Connection) -> None:
    """Say nothing more until the peer leaves or the server closes."""
    connection.wait()


def deaf(connection: Connection) -> None:
    """Read nothing more: in a greeting, a request longer than the buffers can't be written."""
    connection.ignore()


def wait(event: threading.Event) -> Step:
    """Go on when the test sets `event`."""
    return lambda connection: connection.wait(event.is_set)


def tell(event: threading.Event) -> Step:
    """Let the test know that the answer has come this far."""
    return lambda _connection: event.set()


def patience(fault: Answer) -> float:
    """How many seconds to wait for an answer: few only where the fault is silence, for machines may be slow."""
    steps = fault if isinstance(fault, list) else [fault]
    return 0.5 if hang in steps else 60.0


# Steps that send


def drip(data: bytes, *, every: float, size: int = 1) -> Step:
    """Send `data` in pieces of `size` bytes, one each `every` seconds."""

    def step(connection: Connection) -> None:
        for start in range(0, len(data), size):
            connection.send(data[start : start + size])
            due = time.monotonic() + every
            connection.wait(lambda due=due: time.monotonic() >= due)  # type: ignore[misc]

    return step


def cut(data: bytes, *points: int) -> list[Step]:
    """`data`, as one piece from each of these points to the next."""
    edges = [0, *sorted(points), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


def endless(data: bytes, *, limit: int = 256 << 20) -> Step:
    """Send `data` again and again, up to `limit` bytes: a client without bounds is to fail."""

    def step(connection: Connection) -> None:
        for _ in range(limit // len(data)):
            connection.send(data)

    return step


# Whole answers


def head(status: int = 200, headers: Iterable[str] = (), *, reason: str = "Reason") -> bytes:
    """A status line and headers, up to the blank line."""
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *headers, "", ""]).encode("latin-1")


def reply(
    status: int = 200, body: bytes | str = b"", headers: Iterable[str] = (), *, json: Any = None
) -> bytes:
    """A whole answer with its content-length; `json` stands for a body and its content type."""
    headers = list(headers)
    if json is not None:
        body, headers = jsonlib.dumps(json), ["content-type: application/json", *headers]
    body = body.encode() if isinstance(body, str) else body
    return head(status, [*headers, f"content-length: {len(body)}"]) + body


def sse(
    *events: dict[str, Any] | str | Step, headers: Iterable[str] = (), chunked: bool = True
) -> list[Step]:
    """A 200 that streams `events`, each as its own piece: a dict as `data:` JSON, a str as it is.

    Chunked, the body ends after the last event and the connection stays; else closing ends it.
    """

    def begin(connection: Connection) -> None:
        framing = ["transfer-encoding: chunked"] if chunked else []
        connection.send_raw(head(200, ["content-type: text/event-stream", *framing, *headers]))
        connection.chunked = chunked

    return [begin, *(encode(event) for event in events), *([] if chunked else [close])]


def encode(event: dict[str, Any] | str | Step) -> Step:
    """The bytes of an event; steps go through as they are."""
    if isinstance(event, dict):
        return f"data: {jsonlib.dumps(event, ensure_ascii=False)}\n\n".encode()
    return event.encode() if isinstance(event, str) else event


def body_of(*events: dict[str, Any] | str | bytes) -> bytes:
    """The bytes of a whole event stream."""
    return b"".join(bytes(encode(event)) for event in events)  # type: ignore[arg-type]


@functools.cache
def gzip_bomb(size: int) -> bytes:
    """About `size / 1000` bytes of gzip that inflate to `size` zeros."""
    deflate = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return b"".join(deflate.compress(zeros) for _ in range(size >> 20)) + deflate.flush()


def gzipped(data: bytes, *, wbits: int = 31) -> bytes:
    """`data` as gzip (`wbits=31`), zlib (15) or raw deflate (-15)."""
    deflate = zlib.compressobj(wbits=wbits)
    return deflate.compress(data) + deflate.flush()


# The documented bodies


def completion(
    text: str | None = "Hello!", *, model: str = "gpt-4o-mini", **fields: Any
) -> dict[str, Any]:
    """A chat completion as in the reference."""
    return {
        "id": "chatcmpl-abc123",
        "object": "chat.completion",
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        ],
        "usage": USAGE,
    } | fields


def chunk(text: str | None = None, *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a streamed chat completion; `choices=[]` and `usage=…` as further fields."""
    delta = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-abc123",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | fields


def spoken(*texts: str, usage: dict[str, Any] | None = USAGE) -> list[dict[str, Any] | str | Step]:
    """The events of a whole, good stream that says these texts."""
    closing = [chunk(choices=[], usage=usage)] if usage else []
    return [*(chunk(text) for text in texts), chunk(finish="stop"), *closing, DONE]
