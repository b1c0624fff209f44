"""The log's memory is bounded, whatever is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox import log as log_module
from lunar_core.sandbox.log import Log

if TYPE_CHECKING:
    import pytest


def record(log: Log, body: bytes) -> None:
    log.body(log.request("", "POST", "/", "", {}), body)


def kept(log: Log, kind: str = "requests") -> list[dict[str, Any]]:
    return asyncio.run(log.read(kind, None, at_least=0, timeout=0))


def test_the_oldest_bodies_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_SIZE", 100)
    log = Log()
    for number in range(10):
        record(log, b"x" * 30 + str(number).encode())
    assert [r["body"][-1] for r in kept(log)] == ["7", "8", "9"]
    record(log, b"y" * 1000)
    assert [len(r["body"]) for r in kept(log)] == [1000]


def test_a_body_that_comes_after_its_record_was_forgotten_takes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "MAX_SIZE", 100)
    log = Log()
    late = log.request("", "POST", "/", "", {})
    log.clear(None)
    log.body(late, b"x" * 100)
    record(log, b"a" * 30)
    record(log, b"b" * 30)
    assert [r["body"][0] for r in kept(log)] == ["a", "b"]


def test_so_do_the_oldest_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_RECORDS", 3)
    log = Log()
    for number in range(5):
        record(log, b"")
        log.bill({"id": number, "session": ""})
    assert [r["number"] for r in kept(log)] == [3, 4, 5]
    assert [r["id"] for r in kept(log, "billed")] == [2, 3, 4]
