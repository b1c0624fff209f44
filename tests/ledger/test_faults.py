"""A store that cannot be written costs no call, and no entry holds up the others."""

import contextlib
import logging
import math
import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy.exc import OperationalError

from lunar_core import ConfigurationError, Entry, Ledger, LedgerError
from lunar_core.cost.store import database, writer
from tests.ledger.support import USD, entry, finish, outcome, start


@contextlib.contextmanager
def locked(path):
    """Another program writes to the file, and takes its time."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.1)


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "costs.db")


def break_down(ledger, monkeypatch):
    """Have every write of the ledger fail, as on a full disk; gives what makes it well again."""

    @contextlib.contextmanager
    def fail(self):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
        yield

    monkeypatch.setattr(database.Database, "writing", fail)
    return monkeypatch.undo


def test_a_locked_store_is_read_and_what_waits_is_read_with_it(file, impatient, caplog):
    with Ledger.open(file, flush_seconds=0.01) as ledger:
        ledger.after(outcome("call_1"))
        ledger.flush()
        with locked(file):
            started = time.perf_counter()
            ledger.after(outcome("call_2"))
            assert time.perf_counter() - started < 0.05
            assert ledger.add(entry(1, call_id="call_3"))
            assert not ledger.add(entry(1, call_id="call_2"))
            assert (len(ledger), ledger.total_cost) == (3, 2 * USD + 1)
            assert [each.call_id for each in ledger] == ["call_1", "call_2", "call_3"]
            assert ledger.where(until=1).total.calls == 0
            assert ledger.group("model")[("gpt-4o",)].calls == 2
            with pytest.raises(
                LedgerError, match="not everything could be written: database is locked"
            ):
                ledger.flush()
        ledger.flush()
        assert (len(ledger), ledger.lost) == (3, 0)
    told = [record.getMessage() for record in caplog.records if record.name == "lunar_core"]
    assert [words.partition(" ")[2] for words in told] == [
        "could not be written: database is locked",
        "can be written again",
    ]


def test_a_reader_does_not_block_the_writer(file):
    with Ledger.open(file, flush_seconds=0.01) as ledger, Ledger.open(file) as other:
        for number in range(50):
            ledger.after(outcome(f"call_{number}"))
        ledger.flush()
        with other._stored.database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM lunar_entries").scalar() == 50
            ledger.after(outcome("call_50"))
            ledger.flush()
            assert connection.exec_driver_sql("SELECT count(*) FROM lunar_entries").scalar() == 50
        assert len(other) == 51


def test_a_disk_that_is_full_costs_nothing_that_was_written(file):
    code = """
import resource
ledger = Ledger.open(where, flush_seconds=0.01)
ledger.after(outcome("call_1"))
ledger.flush()
size = os.path.getsize(where + "-wal")
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
for number in range(2_000): ledger.after(outcome(f"full_{number}"))
try: ledger.flush(); print("no limit")
except Exception as error: print(type(error).__name__)
assert len(ledger) == 2_001, len(ledger)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.flush()
assert (len(ledger), ledger.lost) == (2_001, 0)
"""
    assert finish(start(code, file)) == "LedgerError\n"
    with Ledger.open(file) as ledger:
        assert len(ledger) == 2_001


def test_beyond_what_may_wait_entries_are_lost_and_counted(opened, monkeypatch, caplog):
    monkeypatch.setattr(writer, "MOST_WAITING", 10)
    ledger = opened(flush_seconds=0.01)
    mend = break_down(ledger, monkeypatch)
    for number in range(25):
        ledger.after(outcome(f"call_{number}"))
    with pytest.raises(LedgerError):
        ledger.flush()
    assert ledger.lost == 15
    assert len(ledger) == 10
    mend()
    with pytest.raises(LedgerError, match="15 entries were lost"):
        ledger.flush()
    ledger.flush()  # told once
    assert [each.call_id for each in ledger] == [f"call_{number}" for number in range(10)]
    lost = [record for record in caplog.records if "those that come now are lost" in record.message]
    assert [record.levelno for record in lost] == [logging.ERROR]


def test_add_waits_for_room(opened, monkeypatch):
    monkeypatch.setattr(writer, "MOST_WAITING", 10)
    ledger = opened(flush_seconds=0.01)
    for number in range(200):
        assert ledger.add(entry(1, call_id=f"call_{number}"))
    assert (len(ledger), ledger.lost) == (200, 0)


def test_add_says_so_when_there_is_no_room(opened, monkeypatch):
    monkeypatch.setattr(writer, "MOST_WAITING", 3)
    monkeypatch.setattr(writer, "PATIENCE", 0.1)
    ledger = opened(flush_seconds=0.01)
    mend = break_down(ledger, monkeypatch)
    for _ in range(3):
        assert ledger.add(entry(1))
    with pytest.raises(LedgerError, match="no room for more entries: database or disk is full"):
        ledger.add(entry(1))
    mend()
    ledger.flush()
    assert len(ledger) == 3


def test_close_says_what_could_not_be_written_and_counts_it(opened, monkeypatch, caplog):
    ledger = opened(flush_seconds=0.01)
    mend = break_down(ledger, monkeypatch)
    ledger.after(outcome())
    with pytest.raises(
        LedgerError, match="not everything could be written: database or disk is full"
    ):
        ledger.close()
    assert ledger.lost == 1
    ledger.close()
    mend()
    assert "1 entries were lost at the end" in caplog.text


HOSTILE = [
    entry(1, call_id="nul\0id", model="a\0b", provider="\ud800", error="\udfff"),
    entry(1, tags={"user": "x\0", "\ud83d": "half"}),
    entry(
        1,
        labels={"o": object(), "nan": math.nan, "set": {1}, "deep": {"x": [object()]}, 3: "three"},
    ),
    entry(1, labels=MappingProxyType({"bytes": b"x", "big": 10**400, "key": {(1, 2): 3}})),
    entry(1, prompt_tokens=10**30, total_tokens=2**63),
    entry("1e300"),
    entry("1e-300"),
    entry(1, at=math.nan, latency_ms=math.inf),
    entry(1, at=1e300),
    entry(1, at=-1e10),
    entry(1, model="x" * 100_000, call_id="y" * 100_000),
    entry(1, routing={"a": float("inf")}, candidates=("a\0",)),
]


def test_no_entry_holds_up_the_others(opened, caplog):
    ledger = opened(flush_seconds=3600)
    holds_itself = {}
    holds_itself["self"] = holds_itself
    hostile = [
        *HOSTILE,
        entry(1, labels=holds_itself),
        entry("1e200000"),
        entry(1, latency_ms="soon"),
        entry(1, cost_weight="much"),
    ]
    for each in [entry(1, call_id="first"), *hostile, entry(1, call_id="last")]:
        assert ledger.add(each)
    try:
        ledger.flush()
    except LedgerError as error:
        assert "entries were lost" in str(error)  # noqa: PT017  # PostgreSQL has no such number
    calls = {each.call_id for each in ledger}
    assert {"first", "last", "nul\ufffdid"} <= calls
    assert len(calls) + ledger.lost == len(hostile) + 2
    assert ledger.lost in (2, 3)
    assert ledger.lost == sum("cannot be written" in record.message for record in caplog.records)
    labelled = next(each for each in ledger if "nan" in each.labels)
    assert labelled.labels == {
        "o": "object",
        "nan": "float",
        "set": "set",
        "deep": {"x": ["object"]},
        "3": "three",
    }
    assert ledger.total.calls == len(calls)
    assert ledger.group("day", "model", "label:deep")


class Settlement:
    """What a budget hands over to be written with the entries."""

    def __init__(self, name, fault=None):
        self.name, self.fault, self.is_written = name, fault, threading.Event()

    def write(self, connection):
        if self.fault is not None:
            raise self.fault
        row = {
            "name": self.name,
            "call_id": "c",
            "key": "",
            "starts_at": 0.0,
            "amount": 1,
            "at": 0.0,
        }
        from lunar_core.cost.store.schema import holds

        connection.execute(holds.insert(), row)

    def on_written(self):
        self.is_written.set()


def test_others_may_write_in_the_transaction_of_the_entries(opened):
    ledger = opened(flush_seconds=3600)
    good, bad = Settlement("good"), Settlement("bad", ValueError("a bug"))
    for item in (bad, good):
        ledger._stored.writer.put(item)
    ledger.after(outcome("call_1"))
    ledger.flush()
    assert len(ledger) == 1
    assert good.is_written.wait(5)
    with ledger._stored.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT name FROM lunar_holds").scalars().all() == [
            "good"
        ]


@pytest.mark.parametrize("name", ["cost", "saved", "input_cost", "output_cost", "cache_input_cost"])
@pytest.mark.parametrize(
    "value", [-1, "-0.1", math.inf, math.nan, "much", True, b"1", Decimal("Infinity")]
)
def test_an_amount_that_cannot_be_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        Entry("call_1", "gpt-4o", **{name: value})


@pytest.mark.parametrize("value", [1, "1", Decimal(1), 1.0])
def test_an_amount_is_decimal_at_every_door(value):
    assert Entry("call_1", "gpt-4o", cost=value).cost == Decimal(1)
    assert type(Entry("call_1", "gpt-4o", cost=value).cost) is Decimal
    assert Entry("call_1", "gpt-4o", cost=0.1).cost == Decimal("0.1")


@pytest.mark.parametrize(
    "name", ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]
)
@pytest.mark.parametrize("value", [-1, True, "3", 1.5])
def test_a_count_that_cannot_be_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        Entry("call_1", "gpt-4o", **{name: value})


def test_what_is_no_entry_is_refused(opened):
    for ledger in (Ledger(), opened()):
        with pytest.raises(ConfigurationError, match=r"^entry: "):
            ledger.add({"call_id": "call_1"})


def test_neither_prompt_nor_answer_nor_key_is_stored(file, lunar_sandbox):
    from lunar_core import Lunar, LunarError

    settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
    with Ledger.open(file) as ledger, Lunar(**settings, observers=[ledger]) as client:
        turns = [{"role": "user", "content": "the secret of the prompt"}]
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=turns)
        with contextlib.suppress(LunarError):
            client.chat.completions.create(model="no-such-model", messages=turns)
        assert len(ledger) == 2
    stored = Path(file).read_bytes()
    assert answer.call.call_id.encode() in stored
    for hidden in (
        turns[0]["content"],
        answer.choices[0].message.content,
        lunar_sandbox.api_key,
        "content-type",
    ):
        assert hidden.encode() not in stored


def test_a_stream_that_the_collector_ends_is_recorded_from_inside_of_any_code(file):
    """The garbage collector may run inside of the ledger's own locks, in the same thread."""
    import gc

    class Dropped:
        def __init__(self, ledger, number):
            self.ledger, self.number, self.cycle = ledger, number, self

        def __del__(self):
            self.ledger.after(outcome(f"dropped-{self.number}"))
            self.ledger.add(entry(1, call_id=f"added-{self.number}"))

    threshold = gc.get_threshold()
    with Ledger.open(file, flush_seconds=0.001) as ledger:
        gc.set_threshold(5, 2, 2)
        try:
            for number in range(400):
                Dropped(ledger, number)
                ledger.add(entry(1))
                ledger.total if number % 40 == 0 else ledger.get(f"added-{number // 2}")
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert len(ledger) == 3 * 400
