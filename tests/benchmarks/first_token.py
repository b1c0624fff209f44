"""Measures what deciding first costs a routed stream: the time to its first word, by the service's latency.

Run it with ``python -m tests.benchmarks.first_token``. The server answers at once, after the latency that is named.
"""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lunar_core import Lunar, LunarCostWarning, Stream

LATENCIES_MS = (0, 20, 80)
ROUNDS = 15
MESSAGES = [{"role": "user", "content": "Hello!"}]
DECISION = json.dumps({"routing": {"selected_model": "gpt-4o", "expected_error": 0.1}}).encode()
STREAM = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)

WAYS: dict[str, Callable[[Lunar], Stream[Any]]] = {
    "one request (router.create)": lambda client: client.router.create(
        messages=MESSAGES, stream=True
    ),
    "decide first (model='router')": lambda client: client.chat.completions.create(
        model="router", messages=MESSAGES, stream=True
    ),
}


@contextmanager
def service(latency_ms: float) -> Iterator[str]:
    """A service that answers each request after ``latency_ms``, and its origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def log_message(self, *_args: object) -> None:
            """Print nothing, because that would be part of the measured time."""

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            time.sleep(latency_ms / 1000)
            decides = question.get("execute") is False
            body = DECISION if decides else STREAM
            kind = "application/json" if decides else "text/event-stream"
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def measure_first_word(client: Lunar, ask: Callable[[Lunar], Stream[Any]]) -> float:
    """Milliseconds until ``ask`` has its first chunk. The rest of the stream is not measured."""
    start = time.perf_counter()
    stream = ask(client)
    next(stream)
    seconds = time.perf_counter() - start
    for _chunk in stream:
        pass
    return seconds * 1000


def measure(latency_ms: float, rounds: int = ROUNDS) -> dict[str, float]:
    """The median of each way in ms, on an open connection. The ways take turns."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with service(latency_ms) as origin, Lunar("pk_bench", base_url=origin) as client:
        for turn in range(rounds + 1):
            for way, ask in WAYS.items():
                millis = measure_first_word(client, ask)
                if turn:  # the first one opens the connection
                    times[way].append(millis)
    return {way: statistics.median(values) for way, values in times.items()}


def main() -> None:
    """Print a line for each latency."""
    warnings.simplefilter("ignore", LunarCostWarning)
    for latency_ms in LATENCIES_MS:
        figures = ", ".join(f"{way} {value:.1f} ms" for way, value in measure(latency_ms).items())
        print(f"latency {latency_ms} ms: {figures}")


if __name__ == "__main__":
    main()
