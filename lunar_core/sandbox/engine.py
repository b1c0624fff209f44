"""The vendor's own router: the UniRoute engine of the package ``opentracy``, run on 127.0.0.1.

``pip install --no-deps opentracy`` is enough: the engine is one binary with its weights, and the
package's Python code, which needs much more, is never imported.

What differs from the package's own ``GoEngine``, and why:

- The engine needs the embedding model inside its weights folder. That folder is made of links in
  a temporary directory, so that nothing is written into site-packages.
- Its output is read all the time, so that it never blocks on a full pipe.
- It gets no environment: no provider's key, no home.
- It breaks ties at random, and ties are common. Here the first of the tied candidates wins, as in
  the service (see ``lunar_core.sandbox.router``).
- It ends with this process. On Linux the kernel ensures that even after a SIGKILL; on other
  systems, a sandbox that is killed by SIGKILL leaves it running.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.catalogue import MODELS, Model
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.router import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INSTALL = "pip install --no-deps opentracy"
_START_SECONDS = 60.0
_ROUTE_SECONDS = 30.0

# Asks Linux (PR_SET_PDEATHSIG = 1) to kill this process with its parent, then becomes the engine.
_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EngineError(RuntimeError):
    """The engine isn't installed, or doesn't start."""


class EngineRouter:
    """Routes by a running engine; see ``running_engine``."""

    name = "engine"

    def __init__(self, port: int, version: str) -> None:
        self.version: str | None = version
        self._port = port

    async def route(self, prompt: str, models: Sequence[Model], cost_weight: float) -> Route:
        """Choose among ``models``.

        Raises ServiceError: 503, when the engine doesn't answer: no other router steps in.
        """
        names = [model.id for model in models]
        answer = await self._ask(prompt, names, cost_weight)
        scores: dict[str, float] = answer["all_scores"]
        selected = min(names, key=lambda name: scores[name])
        reasoning = answer["reasoning"].strip()
        if selected != answer["selected_model"]:  # The engine's own pick among the tied.
            answer = await self._ask(prompt, [selected], cost_weight)
            reasoning = _mark_selected(reasoning, selected)
        return Route(
            model=selected,
            provider=MODELS[selected].owner,
            expected_error=float(answer["expected_error"]),
            score=float(answer["cost_adjusted_score"]),
            cluster=answer["cluster_id"],
            reasoning=reasoning,
            scores=scores,
        )

    async def _ask(self, prompt: str, names: list[str], cost_weight: float) -> dict[str, Any]:
        body = {
            "prompt": prompt if prompt.strip() else "(empty)",
            "available_models": names,
            "cost_weight": cost_weight,
        }
        try:
            return await asyncio.to_thread(_exchange, self._port, "POST", "/v1/route", body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServiceError(503, f"The routing engine does not answer: {error}") from error


def _mark_selected(reasoning: str, selected: str) -> str:
    """Move the engine's mark to the line of the model that was selected here."""
    mark = " <- selected"
    lines = (line.removesuffix(mark) for line in reasoning.splitlines())
    return "\n".join(
        f"{line}{mark}" if line.startswith(f"  {selected}: ") else line for line in lines
    )


@contextlib.contextmanager
def running_engine() -> Iterator[EngineRouter]:
    """Run the engine for the length of a ``with`` block.

    Call it from the main thread: Linux ties the engine's life to the thread that starts it. Raises EngineError if it
    isn't installed, or doesn't start.
    """
    package, version = _package()
    port = _free_port()
    output: deque[str] = deque(maxlen=30)
    with contextlib.ExitStack() as started:
        with tempfile.TemporaryDirectory(prefix="lunar-engine-") as folder:
            # Once the engine is healthy it has read its weights: the links may go, and so
            # nothing stays behind even after a SIGKILL.
            weights = _link_weights(package, Path(folder))
            process = started.enter_context(_spawn(package, weights, port))
            threading.Thread(target=_drain, args=(process, output), daemon=True).start()
            _wait_until_healthy(process, port, output)
        yield EngineRouter(port, version)


def _package() -> tuple[Path, str]:
    """Find the package without importing it."""
    spec = importlib.util.find_spec("opentracy")
    if spec is None or spec.origin is None:
        raise EngineError(f"The engine router needs the package opentracy: {INSTALL}")
    return Path(spec.origin).parent, importlib.metadata.version("opentracy")


def _link_weights(package: Path, folder: Path) -> Path:
    """Lay out the weights as the engine needs them, as links to the package's files."""
    bundled = next((package / "_bundled_weights").glob("*/"), None)
    if bundled is None:
        raise EngineError(f"No weights in {package}: is this the wheel of opentracy?")
    for source in (*bundled.iterdir(), package / "_onnx"):
        name = "onnx" if source.name == "_onnx" else source.name
        try:
            (folder / name).symlink_to(source, target_is_directory=source.is_dir())
        except OSError:  # Windows lets only some users make links.
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
    return folder


@contextlib.contextmanager
def _spawn(package: Path, weights: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the binary, and end it."""
    binary = next((package / "_bin").glob("opentracy-engine-*"), None)
    library = next((package / "_bin").glob("*onnxruntime*"), None)
    if binary is None or library is None:
        raise EngineError(f"No engine for this platform in {package / '_bin'}")
    command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--weights", str(weights)]
    if sys.platform == "linux":
        command = [sys.executable, "-ISc", _WITH_PARENT, str(os.getpid()), *command]
    variables = {
        name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ
    }
    process = subprocess.Popen(  # noqa: S603  # the binary in the engine's own wheel
        command,
        env={**variables, "HOME": str(weights), "ONNXRUNTIME_LIB_PATH": str(library)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl+C is for the sandbox, which then stops the engine.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _drain(process: subprocess.Popen[str], output: deque[str]) -> None:
    if process.stdout is not None:
        with process.stdout as lines:
            output.extend(lines)


def _wait_until_healthy(process: subprocess.Popen[str], port: int, output: deque[str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if _exchange(port, "GET", "/health").get("embedder_ready"):
                return
        time.sleep(0.05)
    raise EngineError("The engine doesn't start. It said: " + "".join(output).strip())


def _exchange(port: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ROUTE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        reply = json.loads(response.read())
    if response.status != 200 or not isinstance(reply, dict):
        raise ValueError(f"{response.status} {reply}")
    return reply


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
