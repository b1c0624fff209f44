"""Lets a function of the test's own process answer for the sandbox, which is another process.

For each answer, the sandbox sends one POST with the request's body over loopback, to a path that
cannot be guessed. Standard library only.
"""

from __future__ import annotations

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    AnswerFunction = Callable[[dict[str, Any]], str | Mapping[str, Any] | None]
    """Takes a request's body; returns a text, a step of a script, or None for the rules."""


class CallbackServer:
    """Serves one function on 127.0.0.1, each request in a thread of its own, until closed."""

    def __init__(self, function: AnswerFunction) -> None:
        path = f"/{secrets.token_urlsafe(16)}"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, reply = (
                    _answer(function, body) if self.path == path else (404, "no such path")
                )
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Print nothing into the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _answer(function: AnswerFunction, body: bytes) -> tuple[int, Any]:
    """Call the function. Its error becomes the reply, because it is raised in no test."""
    try:
        reply = function(json.loads(body))
    except Exception as error:  # noqa: BLE001  # whatever the caller's function raises is the answer, a 500
        return 500, f"{type(error).__name__}: {error}"
    return 200, {"say": reply} if isinstance(reply, str) else reply
