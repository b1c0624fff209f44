"""The list of what the roads do not promise names tests that there are, and says what docs/limits.md says."""

import re
from pathlib import Path

from tests.core.promises.conftest import EXCEPTIONS, ROADS

HERE = Path(__file__).parent
LIMITS = " ".join((HERE.parents[2] / "docs/limits.md").read_text(encoding="utf-8").split())


def test_each_exception_is_of_a_test_that_there_is_and_of_a_road():
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    for entry in EXCEPTIONS:
        assert entry.tests <= there
        assert entry.roads <= set(ROADS)


def test_the_page_of_limits_names_them():
    for word in ("TLS", "proxies", "cookies", "connections", "closing"):
        assert any(entry.reason.endswith(f"own {word}") for entry in EXCEPTIONS)
    assert (
        "An injected `http_client` has its own TLS, proxies, cookies, connections and closing."
        in LIMITS
    )
    assert "`total_timeout` does not bound a step of a sync call before the head" in LIMITS


def test_our_own_road_and_an_instrumented_one_have_none():
    assert not any(entry.roads & {"ours", "instrumented"} for entry in EXCEPTIONS)
