"""Measures many calls or streams at once, and the first call of a process."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from contestants import CORE, LANGCHAIN, LLAMA_INDEX, REFERENCE, SLOW
from lab import HERE, Lab, Worker, make_environment, read_line, start_python, stop
from report import Row

SERVER_MILLIS = 50
TUNNELED = "service.example"
"""The host name of the certificate of ``tunnel.py``."""
CHUNKS = 150
PAUSE_MILLIS = 20
ENDS = 4
"""What a paced stream writes beside its words, each after a pause: a head, a finish reason, [DONE] and an end."""


def measure_in_flight(
    width: int, targets: dict[str, float], *, millis: int = SERVER_MILLIS
) -> Callable[[Lab, str], Iterator[Row]]:
    """Measure the wall time of many calls at once, by the server's time for each."""

    def measure(lab: Lab, line: str) -> Iterator[Row]:
        for mode, target in targets.items():
            order = {
                "do": "flight",
                "script": f"wait-{millis}",
                "sync": mode == "threads",
                "width": width,
            }
            figures = lab.figures([CORE.ours], order)
            # One round is enough to see the multiples that others take, and takes long enough.
            rounds = 1 if width > 100 else lab.rounds
            figures |= lab.figures([REFERENCE, *CORE.peers], order, rounds)
            multiples = {
                name: statistics.median(seconds) * 1000 / millis
                for name, seconds in figures.items()
            }
            yield Row(line, mode, "× ideal, wall", multiples.pop(CORE.ours), target, multiples)

    return measure


def measure_paced_streams(lab: Lab, line: str) -> Iterator[Row]:
    """Measure the wall time of streams of 50 words a second, by the server's time to write them."""
    width, chunks = lab.count(300), lab.count(CHUNKS)
    ideal = (chunks + ENDS) * PAUSE_MILLIS / 1000
    order = {"do": "crowd", "script": f"drip-{chunks}-{PAUSE_MILLIS}", "width": width}
    for group, target in ((CORE, 1.15), (LANGCHAIN, 1.3), (LLAMA_INDEX, None)):
        if lab.worker(group.ours) is None:
            continue
        peers = [name for name in (REFERENCE, *group.peers) if name not in SLOW]
        figures = lab.figures([group.ours, *peers], {**order, "chunks": chunks}, 2)
        multiples = {name: min(seconds) / ideal for name, seconds in figures.items()}
        label = f"{line}, {group.ours}"
        yield Row(label, "async", "× ideal, wall", multiples.pop(group.ours), target, multiples)


def measure_proxied(lab: Lab, line: str) -> Iterator[Row]:
    """Measure the processor time of a call over TLS, behind a proxy of the environment, on open connections."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Path(folder) / "authority.pem"
        tunnel = start_python("tunnel.py", str(authority))
        port, proxy_port = read_line(tunnel).split()
        surroundings = {
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy_port}",
            "SSL_CERT_FILE": str(authority),
        }
        millis: dict[str, float] = {}
        for name in (CORE.ours, REFERENCE):
            worker = Worker(name, f"https://{TUNNELED}:{port}", surroundings)
            order = {"do": "flight_cost", "script": f"wait-{SERVER_MILLIS}", "width": 500}
            rounds = lab.rounds if name == CORE.ours else 1
            figures = [worker.do(**order) for _ in range(rounds + 1)]
            millis[name] = statistics.median(figures[1:]) * 1000
            worker.stop()
        stop(tunnel)
    yield Row(line, "async", "ms a call", millis.pop(CORE.ours), 3.0, millis)


def measure_first_answer(lab: Lab, line: str) -> Iterator[Row]:
    """Measure the processor time of a process with one call: start, imports, client and call."""
    for group in (CORE, LANGCHAIN, LLAMA_INDEX):
        if lab.worker(group.ours) is None:
            continue
        names = [group.ours, REFERENCE, *group.peers]
        seconds: dict[str, list[float]] = {name: [] for name in lab.workers(names)}
        for _ in range(lab.rounds):
            for name, rounds in seconds.items():
                rounds.append(_ask_once(name, lab.origin))
        millis = {name: statistics.median(rounds) * 1000 for name, rounds in seconds.items()}
        yield Row(f"{line}, {group.ours}", "sync", "ms", millis.pop(group.ours), None, millis)


def _ask_once(name: str, origin: str) -> float:
    code = f"from contestants import *; CONTESTANTS[{name!r}]('{origin}/call').call(PROMPT)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=HERE, env=make_environment(), check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
