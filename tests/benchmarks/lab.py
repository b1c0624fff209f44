"""The processes of a run: one server, a worker for each contestant, and turns figures between them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contestants import PEERS, REFERENCE, SLOW
from typing_extensions import Self

HERE = Path(__file__).parent


class Lab:
    """Runs the contestants. ``rounds``: how often each figure is measured. ``scale``: the share of the usual work."""

    def __init__(self, rounds: int, scale: float = 1.0, *, has_peers: bool = True) -> None:
        self.rounds = rounds
        self.scale = scale
        self.has_peers = has_peers
        self._workers: dict[str, Worker | None] = {}
        self._server = start_python("loopback.py")
        self.origin = f"http://127.0.0.1:{read_line(self._server)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            if worker is not None:
                worker.stop()
        stop(self._server)

    def worker(self, name: str) -> Worker | None:
        """The contestant's worker. None if it is not installed, which is printed once, or if it is left out."""
        if name in PEERS and not self.has_peers:
            return None
        if name not in self._workers:
            worker = Worker(name, self.origin)
            if worker.missing:
                print(f"skipped: {name} ({worker.missing})", file=sys.stderr)
                worker.stop()
            self._workers[name] = None if worker.missing else worker
        return self._workers[name]

    def workers(self, names: Iterable[str]) -> dict[str, Worker]:
        workers = {name: self.worker(name) for name in names}
        return {name: worker for name, worker in workers.items() if worker is not None}

    def count(self, usual: int, name: str = "") -> int:
        """The number of repetitions: fewer for a contestant that takes ten times as long as the others."""
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
            name: statistics.median(one / other for one, other in zip(own, base, strict=True))
            for name, own in figures.items()
        }

    def figures(
        self, names: Iterable[str], order: dict[str, Any], rounds: int | None = None
    ) -> dict[str, list[float]]:
        workers = self.workers(names)
        figures: dict[str, list[float]] = {name: [] for name in workers}
        for turn in range(-1, rounds or self.rounds):  # the first is to warm up
            for name in [*figures]:
                try:
                    figure = workers[name].do(**self._scale(order, name))
                    if turn < 0:
                        workers[name].do(do="settle")
                    else:
                        figures[name].append(figure)
                except WorkError as error:
                    print(f"failed: {error}", file=sys.stderr)
                    del figures[name]
        return figures

    def _scale(self, order: dict[str, Any], name: str) -> dict[str, Any]:
        if "count" not in order:
            return order
        return {**order, "count": self.count(order["count"], name)}

    def count_connections(self) -> int:
        """How many connections the server has accepted so far."""
        with urllib.request.urlopen(f"{self.origin}/connections") as answer:  # noqa: S310  # our own server
            return int(answer.read())


class WorkError(Exception):
    """A contestant's process reported an error."""


class Worker:
    """The process of one contestant. ``surroundings``: its environment variables beyond those of all."""

    def __init__(
        self, name: str, origin: str, surroundings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.name = name
        self._process = start_python("worker.py", name, origin, surroundings=surroundings)
        self.missing = self._read_reply().get("missing")

    def do(self, **order: Any) -> Any:
        if self._process.stdin is None:
            raise TypeError("started with a pipe")
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        reply = self._read_reply()
        if "error" in reply:
            raise WorkError(f"{self.name} at {order}: {reply['error']}")
        return reply["result"]

    def stop(self) -> None:
        stop(self._process)

    def _read_reply(self) -> dict[str, Any]:
        line = read_line(self._process)
        if not line:
            raise RuntimeError(f"{self.name} has died: its last words are above")
        reply: dict[str, Any] = json.loads(line)
        return reply


def measure_import(statement: str) -> float | None:
    """Processor time of an import in a new process; None if the import fails."""
    code = (
        f"import time; start = time.process_time()\n{statement}\nprint(time.process_time() - start)"
    )
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env=make_environment(),
    )  # fmt: skip
    return float(process.stdout) if process.returncode == 0 else None


def start_python(
    script: str, *arguments: str, surroundings: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """A process that runs one of the scripts beside this file; it ends when ``stop`` closes its input."""
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**make_environment(), **surroundings},
    )  # fmt: skip


def make_environment() -> dict[str, str]:
    """The environment of each process, without the user's keys, proxies and tracers, which could change a figure."""
    foreign = ("LUNAR_", "OPENAI_", "OPENROUTER_", "LANGSMITH_", "LANGCHAIN_")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    # litellm asks the network for its price list, unless it is told not to.
    return {**environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def read_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""


def stop(process: subprocess.Popen[str]) -> None:
    process.communicate()  # closes its input, which ends it
