"""The list of what the roads do not promise names tests that there are, and says what docs/limits.md says."""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

from tests.core.promises.conftest import EXCEPTIONS, ROADS, is_left_out

HERE = Path(__file__).parent
LIMITS = " ".join((HERE.parents[2] / "docs/limits.md").read_text(encoding="utf-8").split())

FOREIGN = {
    "a foreign transport must handle forks and further event loops itself": "that transport must handle forks and "
    "further event loops itself",
    "on a foreign transport, total_timeout does not bound a step of a sync call before the head": "`total_timeout` "
    "does not bound a step of a sync call before the head of its answer has come",
}
"""What the list says of transports that are not ours, and in what words the page says it."""


def test_each_exception_is_of_a_test_that_there_is_and_of_a_road():
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    for entry in EXCEPTIONS:
        assert entry.tests <= there
        assert entry.roads <= set(ROADS)


def test_the_page_of_limits_has_the_same_list():
    reasons = {entry.reason for entry in EXCEPTIONS if not entry.reason.startswith("none of")}
    its_own = {reason.rpartition(" has its own ")[2] for reason in reasons if " own " in reason}
    (named,) = re.findall(r"An injected `http_client` has its own ([^.]+)\.", LIMITS)
    assert set(re.split(", | and ", named)) == its_own
    (foreign,) = re.findall(r"If its transport is not `lunar_core.Transport`, ([^.]+)\.", LIMITS)
    assert FOREIGN.keys() == {reason for reason in reasons if " own " not in reason}
    assert foreign == ", and ".join(FOREIGN.values())


def test_our_own_road_and_an_instrumented_one_have_none():
    assert not any(entry.roads & {"ours", "instrumented"} for entry in EXCEPTIONS)


def test_what_the_sync_client_alone_does_not_promise_is_tried_with_the_async_one():
    partial = [entry for entry in EXCEPTIONS if "sync" in entry.only]
    assert partial
    for entry, kind in itertools.product(partial, ("sync", "async")):
        (name,), (road, *_) = entry.tests, entry.roads
        case = SimpleNamespace(
            params={"road": road}, id="-".join(["plain", kind, road, *(entry.only - {"sync"})])
        )
        item = SimpleNamespace(originalname=name, callspec=case)
        assert is_left_out(item, entry) is (kind == "sync")
