"""Starts a sandbox as a process of its own and talks to it (standard library only)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import tempfile
import threading
from decimal import Decimal
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode, urlsplit

from lunar_core.sandbox.callback import CallbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lunar_core.sandbox.callback import AnswerFunction


class SandboxError(RuntimeError):
    """A sandbox did not start, or did not answer."""


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """A running sandbox, or one session of it.

    ``url`` is the base URL for a client, ``api_key`` a key that it accepts. A handle made by
    ``session`` shares the server and sees only its own requests and bills.
    """

    url: str
    api_key: str
    port: int
    pid: int
    dialect: str
    router: str
    engine_version: str | None
    process: subprocess.Popen[str] = dataclasses.field(repr=False, compare=False)
    _callbacks: dict[str, CallbackServer] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    """The functions that answer, by the URL of their session; all handles of a server share it."""

    def session(self, name: str) -> Sandbox:
        """Return a handle for a session: its URL ends with ``/session/NAME``."""
        base = self.url.partition("/session/")[0]
        return dataclasses.replace(self, url=f"{base}/session/{name}")

    def requests(self, *, at_least: int = 0, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Return the requests seen: ``method, path, query, headers, body, model, status, …``.

        ``body`` is the raw text. Waits up to ``timeout`` seconds for ``at_least`` so many.
        """
        return self._records("requests", at_least, timeout)

    def billed(self, *, at_least: int = 0, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Return what was billed: ``id, model, tokens, costs in USD, tags, …`` per call.

        A client that hangs up is billed a moment later: wait for it with ``at_least``.
        """
        return self._records("billed", at_least, timeout)

    def total_billed(self) -> Decimal:
        """Add up ``total_cost_usd`` of all bills, exactly."""
        costs = (bill.get("total_cost_usd") for bill in self.billed())
        return sum((Decimal(repr(cost)) for cost in costs if cost is not None), Decimal(0))

    def say(self, text: str) -> Sandbox:
        """Script a text as the model's answer to a coming request.

        Returns the same handle, so that steps may be chained.

        Each request that generates takes the next step, in order, whichever model it names. After the last step, the
        model's own rules answer. Steps belong to this session.

        >>> with run() as sandbox:
        ...     handle = sandbox.call_tool("weather", {"city": "Oslo"}).say("Snow.").fail(503)
        ...     [list(step) for step in handle.script()]
        [['call_tools'], ['say'], ['fail']]
        """
        return self._add_step({"say": text})

    def call_tool(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> Sandbox:
        """Script a tool call; arguments that are a string are sent as they are, valid or not."""
        return self.call_tools((name, {} if arguments is None else arguments))

    def call_tools(self, *calls: tuple[str, Mapping[str, Any] | str]) -> Sandbox:
        """Script several tool calls in one answer: ``("weather", {"city": "Oslo"}), …``."""
        step = [{"name": name, "arguments": arguments} for name, arguments in calls]
        return self._add_step({"call_tools": step})

    def fail(self, fault: int | str) -> Sandbox:
        """Script a failure: a status, or a fault by its name, ``"429-header=0.2"``, ``"503*2"``.

        Raises SandboxError for a fault that ``GET /sandbox/faults`` doesn't list.
        """
        return self._add_step({"fail": str(fault)})

    def answer(self, function: AnswerFunction) -> None:
        """Let a function answer whenever no step of the script is left.

        It is called in a thread of this process with each request's body, and returns a text, a step (``{"say": …}``,
        ``{"call_tools": [{"name": …, "arguments": {…}}]}``, ``{"fail": "503"}``), or None to let the model's own rules
        answer. Its error becomes a 500 with the error's text. It applies to this session until ``reset``.

        >>> with run() as sandbox:
        ...     sandbox.answer(lambda request: request["messages"][-1]["content"].upper())
        """
        self._close_callback()
        server = self._callbacks[self.url] = CallbackServer(function)
        self._call("POST", "/sandbox/script", body={"answer_url": server.url})

    def script(self) -> list[dict[str, Any]]:
        """Return the scripted steps that no request has taken yet."""
        return list(json.loads(self._call("GET", "/sandbox/script"))["steps"])

    def reset(self) -> None:
        """Forget the requests, bills and script of this session (without one: all)."""
        self._call("DELETE", "/sandbox/log")
        self._close_callback()

    def about(self) -> dict[str, Any]:
        """Return the facts of ``GET /sandbox``: dialect, router, delay and more."""
        return dict(json.loads(self._call("GET", "/sandbox")))

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would."""
        self.process.kill()
        self.process.wait()

    def _add_step(self, step: Mapping[str, Any]) -> Sandbox:
        self._call("POST", "/sandbox/script", body={"steps": [step]})
        return self

    def _close_callback(self) -> None:
        if server := self._callbacks.pop(self.url, None):
            server.close()

    def _records(self, kind: str, at_least: int, timeout: float) -> list[dict[str, Any]]:
        query = urlencode({"at_least": at_least, "timeout": timeout})
        content = self._call("GET", f"/sandbox/{kind}?{query}", timeout=timeout + 10)
        return list(json.loads(content))

    def _call(self, method: str, path: str, *, body: object = None, timeout: float = 10.0) -> bytes:
        """Send one request of the sandbox's own, and return the body of its answer. Raises SandboxError for an error.

        It goes over a plain socket: tools that record HTTP (vcrpy, pytest-recording) replace the classes of
        http.client, and would record these requests too.
        """
        content = b"" if body is None else json.dumps(body).encode()
        path = urlsplit(self.url).path + path
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
            f"connection: close\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout) as sock:
            sock.sendall(head.encode() + content)
            with contextlib.closing(HTTPResponse(sock, method=method)) as response:
                response.begin()
                answer = response.read()
        if response.status >= 400:
            raise SandboxError(f"{method} {path}: {response.status} {answer.decode()}")
        return answer


@contextlib.contextmanager
def run(
    *,
    port: int = 0,
    dialect: Literal["documented", "observed"] = "documented",
    router: Literal["table", "engine"] = "table",
    upstream: str | None = None,
    upstream_model: str | None = None,
    delay: float = 0.0,
    start_timeout: float = 60.0,
) -> Iterator[Sandbox]:
    """Run a sandbox for the length of a ``with`` block.

    It ends with the block, and with this process, however that ends. ``port``: 0 takes a free one. ``dialect``:
    ``documented`` (the reference) or ``observed`` (the backend as it was seen). ``router``: ``table``, or ``engine``
    for the vendor's own (needs ``opentracy``). ``upstream``: the URL of an OpenAI-compatible server that generates the
    answers. ``upstream_model``: the model to ask there, whichever was named. ``delay``: seconds between streamed words.
    ``start_timeout``: seconds to wait until it is ready. Raises SandboxError, which says what it printed, if it didn't
    start.

    >>> with run() as sandbox:
    ...     sandbox.about()["router"]
    'table'
    """
    command = [sys.executable, "-m", "lunar_core.sandbox", "--json", "--until-stdin-closes"]
    command += ["--port", str(port), "--dialect", dialect, "--router", router]
    command += ["--delay", str(delay)]
    command += ["--upstream", upstream] if upstream else []
    command += ["--upstream-model", upstream_model] if upstream_model else []
    callbacks: dict[str, CallbackServer] = {}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603  # sys.executable and this package's own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            facts = _wait_until_ready(process, start_timeout)
            if facts is None:
                code = process.wait()
                errors.seek(0)
                words = errors.read().strip()
                raise SandboxError(f"The sandbox did not start (exit code {code}): {words}")
            yield Sandbox(api_key="pk_test_sandbox", process=process, _callbacks=callbacks, **facts)
        finally:
            _stop(process)
            for server in callbacks.values():
                server.close()


def _wait_until_ready(process: subprocess.Popen[str], timeout: float) -> dict[str, Any] | None:
    """Read the server's line with its address; None if it ended instead."""
    alarm = threading.Timer(timeout, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        alarm.cancel()
    return dict(json.loads(line)) if line else None


def _stop(process: subprocess.Popen[str]) -> None:
    """Close its stdin, which ends it; kill it if it doesn't."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
