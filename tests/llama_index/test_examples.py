"""The examples for LlamaIndex run offline, and their sums are the sandbox's bills."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> str:
    """What the example prints. The sandbox is the only one that it asks."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def amounts(text: str) -> list[str]:
    return re.findall(r"([\d.E-]+) USD", text)


def test_a_query_engine_tells_the_cost_of_each_query():
    told = run("20_query_engine.py")
    assert told.count("from: ") == 3
    for planet in ("Mars", "Venus", "Jupiter"):
        question, source = re.search(rf"(.*{planet}.*\?)\n  from: (.*)", told).groups()
        assert planet in question
        assert planet in source
    *_, total, billed = amounts(told)
    assert total == billed


def test_an_agents_steps_are_routed_and_add_up_to_the_bill():
    told = run("21_agent.py")
    assert "18 °C and rain in Paris" in told
    assert "2.1 million" in told
    assert "Agent guide: 2 calls" in told
    *_, total, billed = amounts(told)
    assert total == billed


def test_a_chat_engine_streams_and_stays_with_its_model():
    told = run("22_chat_engine.py")
    assert len(set(re.findall(r"^  (\S+): [\d.E-]+ USD", told, re.MULTILINE))) == 1
    assert "6 messages are remembered." in told


def test_bookings_are_extracted_whole_and_in_streams():
    told = run("23_extraction.py")
    assert "Booking(name='Ada Lovelace', guests=4, date='2026-12-10')" in told
    assert "{'name': 'Grace Hopper', 'guests': 2, 'date': '2026-12-24'}" in told
    assert "\nTrue\n" in told


def test_each_tenant_gets_its_own_bill():
    told = run("24_cost_per_tenant.py")
    assert re.search(r"^acme +3 calls, [\d.E-]+ USD, 1 unpriced$", told, re.MULTILINE)
    assert re.search(r"^globex +2 calls, [\d.E-]+ USD, 1 unpriced$", told, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("2?_*.py")), ids=lambda path: path.name)
def test_each_example_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    assert f"    python examples/{path.name} " in text
    assert f"examples/{path.name} --live" in text
