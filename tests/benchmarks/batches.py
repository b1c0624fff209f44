"""Measures a batch of the command against a server that takes 50 ms: its time beyond the server's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab import Lab
from report import Row

CONCURRENCY = 200
WAIT = 0.05
PROMPTS = 20_000


def measure_batch(lab: Lab, line: str) -> Iterator[Row]:
    """Measure ``lunar-llm batch``, without the start of the process."""
    count = lab.count(PROMPTS)
    seconds = run_command(lab.origin, count) - run_command(lab.origin, 1)
    ideal = count / CONCURRENCY * WAIT
    yield Row(f"{line} at {CONCURRENCY} at once", "50 ms each", "× ideal", seconds / ideal, 1.5)


def run_command(origin: str, count: int) -> float:
    """The wall time of a batch of ``count`` prompts."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        rows = [{"id": number, "prompt": "Say hello"} for number in range(count)]
        prompts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        options = [prompts, "--out", out, "--model", "gpt-4o-mini", "--concurrency", CONCURRENCY]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "lunar_core", "batch", *map(str, options)],
            env=os.environ
            | {"LUNAR_API_KEY": "pk_bench", "LUNAR_BASE_URL": f"{origin}/wait-{WAIT * 1000:.0f}"},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.perf_counter() - start
        if out.read_bytes().count(b"\n") != count:
            raise RuntimeError("answers are missing")
    return seconds
