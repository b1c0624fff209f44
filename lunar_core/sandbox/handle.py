"""Starts a sandbox as a process of its own and talks to it (standard library only)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DIRECT = build_opener(ProxyHandler({}))
"""Never by a proxy: the sandbox is on this machine."""


class SandboxError(RuntimeError):
    """A sandbox didn't start, or didn't answer."""


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """A running sandbox, or one session of it.

    ``url`` is the base URL for a client, ``api_key`` a key that it accepts. A handle made by
    :meth:`session` shares the server and sees only its own requests and bills.
    """

    url: str
    api_key: str
    port: int
    pid: int
    dialect: str
    router: str
    engine_version: str | None
    process: subprocess.Popen[str] = dataclasses.field(repr=False, compare=False)

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

    def reset(self) -> None:
        """Forget the requests and bills of this session (without one: all)."""
        self._call("DELETE", "/sandbox/log", {}, 10.0)

    def about(self) -> dict[str, Any]:
        """Return what the sandbox tells about itself."""
        return dict(json.loads(self._call("GET", "/sandbox", {}, 10.0)))

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would."""
        self.process.kill()
        self.process.wait()

    def _records(self, kind: str, at_least: int, timeout: float) -> list[dict[str, Any]]:
        query = {"at_least": at_least, "timeout": timeout}
        return list(json.loads(self._call("GET", f"/sandbox/{kind}", query, timeout + 10)))

    def _call(self, method: str, path: str, query: Mapping[str, object], timeout: float) -> bytes:
        url = f"{self.url}{path}?{urlencode(query)}"
        request = Request(url, method=method)  # noqa: S310 - the URL is our own server's
        with _DIRECT.open(request, timeout=timeout) as response:
            return bytes(response.read())


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

    It ends with the block, and with this process, however that ends.

    Args:
        port: 0 takes a free one.
        dialect: ``documented`` (the reference) or ``observed`` (the backend as it was seen).
        router: ``table``, or ``engine`` for the vendor's own (needs ``opentracy``).
        upstream: URL of an OpenAI-compatible server that generates the answers.
        upstream_model: the model to ask there, whichever was named.
        delay: seconds between streamed words.
        start_timeout: seconds to wait until it is ready.

    Raises:
        SandboxError: it didn't start; the message says what it printed.

    Example:
        >>> with run() as sandbox:
        ...     sandbox.about()["router"]
        'table'
    """
    command = [sys.executable, "-m", "lunar_core.sandbox", "--json", "--until-stdin-closes"]
    command += ["--port", str(port), "--dialect", dialect, "--router", router]
    command += ["--delay", str(delay)]
    command += ["--upstream", upstream] if upstream else []
    command += ["--upstream-model", upstream_model] if upstream_model else []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603 - this package's own command
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield _wait_until_ready(process, start_timeout) or _raise_not_started(process, errors)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[str], timeout: float) -> Sandbox | None:
    """Read the line in which the server says where it is."""
    alarm = threading.Timer(timeout, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        alarm.cancel()
    if not line:
        return None
    ready = json.loads(line)
    return Sandbox(api_key="pk_test_sandbox", process=process, **ready)


def _raise_not_started(process: subprocess.Popen[str], errors: Any) -> Sandbox:
    code = process.wait()
    errors.seek(0)
    raise SandboxError(f"The sandbox didn't start (exit code {code}): {errors.read().strip()}")


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
