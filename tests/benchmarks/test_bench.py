"""The bench works: its lines give figures. This does not test how large they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import first_token

BENCH = Path(__file__).parent


def test_deciding_first_costs_a_routed_stream_one_more_way_there_and_back():
    one_request, decide_first = first_token.measure(10, rounds=3).values()
    assert one_request >= 10
    assert decide_first >= 20


def test_the_bench_measures_ours_and_the_peers_that_are_installed(tmp_path):
    figures = tmp_path / "figures.json"
    names = ("framing", "first token")
    only = [word for name in names for word in ("--only", name)]
    process = subprocess.run(
        [sys.executable, BENCH, "--quick", "--rounds", "1", "--json", figures, *only],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    rows = json.loads(figures.read_text())
    assert len(rows) == 2 * len(names)  # each line in two modes
    assert all(row["ours"] > 0 for row in rows)
    assert "verdict" in process.stdout


def test_a_line_that_is_not_there_is_named_with_those_that_are():
    process = subprocess.run(
        [sys.executable, BENCH, "--only", "no such line"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "no line begins so; there are: call; chunk" in process.stderr
