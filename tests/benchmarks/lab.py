"""The processes of a run: one server, a worker for each contestant, and turns taken between them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contestants import REFERENCE, SLOW
from typing_extensions import Self

HERE = Path(__file__).parent


class Lab:
    """``rounds``: how often each figure is taken. ``scale``: what part of the usual work is done for each."""

    def __init__(self, rounds: int, scale: float = 1.0) -> None:
        self.rounds = rounds
        self.scale = scale
        self._workers: dict[str, Worker | None] = {}
        self._server = _python("loopback.py")
        self.origin = f"http://127.0.0.1:{_line(self._server)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            if worker is not None:
                worker.stop()
        _stop(self._server)

    def worker(self, name: str) -> Worker | None:
        """None, after saying so once, where the contestant is not installed."""
        if name not in self._workers:
            worker = Worker(name, self.origin)
            if worker.missing:
                print(f"skipped: {name} ({worker.missing})", file=sys.stderr)
                worker.stop()
            self._workers[name] = None if worker.missing else worker
        return self._workers[name]

    def workers(self, names: Iterable[str]) -> dict[str, Worker]:
        found = {name: self.worker(name) for name in names}
        return {name: worker for name, worker in found.items() if worker is not None}

    def count(self, usual: int, name: str = "") -> int:
        """How often to repeat something: less for a contestant that takes ten times as long as the others."""
        return max(1, int(usual * self.scale / (10 if name in SLOW else 1)))

    def ratios(
        self, names: Iterable[str], order: dict[str, Any], to: str = REFERENCE
    ) -> dict[str, float]:
        """Each contestant's figure by that of ``to``: the middle one of all rounds.

        Within a round all take their turns, so that what the machine does meanwhile hits them alike.
        """
        figures = self.figures([to, *names], order)
        base = figures.pop(to, [])
        return {
            name: statistics.median(one / other for one, other in zip(taken, base, strict=True))
            for name, taken in figures.items()
        }

    def figures(
        self, names: Iterable[str], order: dict[str, Any], rounds: int | None = None
    ) -> dict[str, list[float]]:
        workers = self.workers(names)
        taken: dict[str, list[float]] = {name: [] for name in workers}
        for turn in range(-1, rounds or self.rounds):  # the first is to warm up
            for name in [*taken]:
                try:
                    figure = workers[name].do(**self._share(order, name))
                    if turn < 0:
                        workers[name].do(do="settle")
                    else:
                        taken[name].append(figure)
                except WorkError as error:
                    print(f"failed: {error}", file=sys.stderr)
                    del taken[name]
        return taken

    def _share(self, order: dict[str, Any], name: str) -> dict[str, Any]:
        if "count" not in order:
            return order
        return {**order, "count": self.count(order["count"], name)}

    def connections(self) -> int:
        """How many connections the server has accepted so far."""
        with urllib.request.urlopen(f"{self.origin}/connections") as answer:  # noqa: S310  # our own server
            return int(answer.read())


class WorkError(Exception):
    """A contestant could not do what it was told."""


class Worker:
    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        self._process = _python("worker.py", name, origin)
        self.missing = self._reply().get("missing")

    def do(self, **order: Any) -> Any:
        if self._process.stdin is None:
            raise TypeError("started with a pipe")
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        reply = self._reply()
        if "error" in reply:
            raise WorkError(f"{self.name} at {order}: {reply['error']}")
        return reply["result"]

    def stop(self) -> None:
        _stop(self._process)

    def _reply(self) -> dict[str, Any]:
        line = _line(self._process)
        if not line:
            raise RuntimeError(f"{self.name} has died: its last words are above")
        reply: dict[str, Any] = json.loads(line)
        return reply


def import_seconds(statement: str) -> float | None:
    """Processor time of an import in a fresh process; None where it cannot be had."""
    code = (
        f"import time; start = time.process_time()\n{statement}\nprint(time.process_time() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    return float(done.stdout) if done.returncode == 0 else None


def _python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """What is measured must not depend on who measures: no keys, proxies or tracers from outside."""
    outside = ("LUNAR_", "OPENAI_", "OPENROUTER_", "LANGSMITH_", "LANGCHAIN_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(outside) and not name.lower().endswith("_proxy")
    }
    # litellm asks the network for its price list, unless it is told not to.
    return {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""


def _stop(process: subprocess.Popen[str]) -> None:
    process.communicate()  # closes its input, which ends it
