"""What may become a store, what is refused, and that it is left as it was."""

import contextlib
import shutil
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from lunar_core import ConfigurationError, Ledger, LedgerError, LunarError
from lunar_core.cost.store import schema
from tests.ledger.conftest import SERVER
from tests.ledger.support import entry, finish, start

SAMPLES = Path(__file__).parents[1] / "samples" / "ledger"


def ask(path, question):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_made_for_its_owner_alone(tmp_path):
    with Ledger.open(tmp_path / "costs.db") as ledger:
        ledger.add(entry(1))
        ledger.flush()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["costs.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["costs.db"]


def test_an_empty_file_becomes_a_store(tmp_path):
    path = tmp_path / "costs.db"
    path.touch()
    with Ledger.open(path) as ledger:
        ledger.add(entry(1))
    with Ledger.open(f"sqlite:///{path}") as ledger:
        assert ledger.total_cost == 1
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("mode", ["wal", "delete", "wal, another process has it open"])
def test_a_database_that_is_no_ledger_is_refused_and_left_as_it_was(tmp_path, mode):
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute(f"PRAGMA journal_mode={mode.partition(',')[0]}")
    with theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    if "another" not in mode:
        theirs.close()
    before = contents(tmp_path)
    for options in ({}, {"read_only": True}):
        with pytest.raises(LedgerError, match=r"theirs\.db is no ledger"):
            Ledger.open(path, **options)
    after = contents(tmp_path)
    after.pop("theirs.db-shm", None)
    before.pop("theirs.db-shm", None)
    assert after == before
    theirs.close()


@pytest.mark.parametrize(
    "content", [b"x", b"not a database " * 400, bytes(4096), b"SQLite format 3\0" + bytes(84)]
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"notes\.txt"):
        Ledger.open(path)
    assert contents(tmp_path) == {"notes.txt": content}


def test_a_newer_version_is_refused_with_both_versions_and_left_as_it_was(tmp_path):
    path = tmp_path / "costs.db"
    Ledger.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lunar_meta SET value = '7' WHERE key = 'schema_version'")
    before = contents(tmp_path)
    for options in ({}, {"read_only": True}):
        with pytest.raises(LedgerError, match=r"costs\.db .* schema_version is 7, .* 1$"):
            Ledger.open(path, **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("version-*.db")), ids=lambda path: path.stem)
def test_a_store_of_each_version_is_brought_to_todays(tmp_path, sample):
    path = tmp_path / "costs.db"
    shutil.copyfile(sample, path)
    with Ledger.open(path) as ledger:
        told = {"version-0": 0, "version-1": 2}[sample.stem]
        assert len(ledger) == told
        assert ledger.add(entry(1, call_id="call_of_today"))  # the samples have call_1, call_2, …
        assert len(ledger) == told + 1
    version = ask(path, "SELECT value FROM lunar_meta WHERE key = 'schema_version'")
    assert version == [(str(schema.VERSION),)]


def test_there_is_a_sample_of_each_version():
    assert {path.stem for path in SAMPLES.glob("version-*.db")} == {
        f"version-{n}" for n in range(schema.VERSION + 1)
    }


def test_a_migration_that_fails_leaves_the_older_version(tmp_path, monkeypatch):
    path = tmp_path / "costs.db"
    shutil.copyfile(SAMPLES / "version-0.db", path)

    def fail(connection):
        connection.exec_driver_sql("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(schema, "MIGRATIONS", (fail,))
    with pytest.raises(LedgerError, match="disk I/O error"):
        Ledger.open(path)
    tables = ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert tables == [("lunar_meta",)]


def test_the_version_is_kept_where_the_issue_says(where, opened):
    opened()
    if "://" in where:
        import psycopg

        connection = psycopg.connect(where)
        tables = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'lunar%'"
    else:
        connection = sqlite3.connect(where)
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'lunar%'"
    assert {name for (name,) in connection.execute(tables)} == {
        "lunar_meta",
        "lunar_entries",
        "lunar_budgets",
        "lunar_holds",
    }
    found = connection.execute(
        "SELECT value FROM lunar_meta WHERE key = 'schema_version'"
    ).fetchone()
    connection.close()
    assert found == ("1",)


def test_processes_may_make_one_store_at_once(where):
    code = """
time.sleep(max(0, float(sys.argv[2]) - time.time()))
with Ledger.open(where) as ledger:
    ledger.add(entry(1, call_id=f"call_{os.getpid()}"))
"""
    moment = time.time() + 2.5
    for process in [start(code, where, moment) for _ in range(8)]:
        finish(process)
    with Ledger.open(where) as ledger:
        assert ledger.total_cost == len(ledger) == 8


def test_processes_may_migrate_one_store_at_once(tmp_path):
    path = tmp_path / "costs.db"
    shutil.copyfile(SAMPLES / "version-0.db", path)
    code = "with Ledger.open(where) as ledger: ledger.add(entry(1, call_id=f'call_{os.getpid()}'))"
    for process in [start(code, str(path)) for _ in range(4)]:
        finish(process)
    with Ledger.open(path) as ledger:
        assert len(ledger) == 4


def test_a_read_only_ledger_makes_and_writes_nothing(tmp_path):
    path = tmp_path / "costs.db"
    with pytest.raises(LedgerError, match="is not there"):
        Ledger.open(path, read_only=True)
    assert contents(tmp_path) == {}
    with Ledger.open(path) as ledger:
        ledger.add(entry(1, call_id="call_1"))
    before = contents(tmp_path)
    with Ledger.open(path, read_only=True) as ledger:
        assert (ledger.total_cost, len(ledger), ledger.get("call_1").cost) == (1, 1, 1)
        assert [each.cost for each in ledger] == [1]
        for write in (lambda: ledger.add(entry(2)), lambda: ledger.label("call_1", {})):
            with pytest.raises(LedgerError, match="read only"):
                write()
        ledger.flush()
        assert contents(tmp_path) == before
    assert contents(tmp_path) == before


def test_a_read_only_ledger_follows_one_that_writes(where, opened):
    ledger = opened()
    ledger.add(entry(1))
    ledger.flush()
    with Ledger.open(where, read_only=True) as reader:
        assert reader.total_cost == 1
        ledger.add(entry(2))
        ledger.flush()
        assert reader.total_cost == 3


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("no such folder/costs.db", "costs.db cannot be made: its folder is not there"),
        (".", "could not be opened"),
    ],
)
def test_a_place_where_no_file_can_be_is_told(tmp_path, place, words):
    with pytest.raises(LedgerError, match=words):
        Ledger.open(tmp_path / place)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "where: .*Ledger\\(\\)"),
        (":memory:", "where: .*Ledger\\(\\)"),
        ("sqlite://", "where: .*Ledger\\(\\)"),
        (None, "where: expected a path"),
        (b"costs.db", "where: expected a path"),
        ("a\0b", "where: .*NUL"),
        ("\ud800", "where: .*surrogate"),
        ("mysql://user:hunter2@host/name", "mysql"),
        ("postgresql+asyncpg://user:hunter2@host/name", "postgresql\\+asyncpg"),
        ("postgresql+psycopg2://user:hunter2@host/name", "postgresql\\+psycopg2"),
        ("postgresql://user:hunter2@host:port/name", "where: expected a URL"),
    ],
)
def test_what_can_be_no_store_is_refused(address, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        Ledger.open(address)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flush_seconds", 0),
        ("flush_seconds", True),
        ("flush_seconds", None),
        ("flush_seconds", "1"),
        ("read_only", 1),
        ("prices", {}),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_made(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        Ledger.open(tmp_path / "costs.db", **{name: value})
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_server_that_cannot_be_reached_is_told_without_the_password(scheme):
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1") as refused:
        Ledger.open(f"{scheme}://user:hunter2@127.0.0.1:9/name")
    assert isinstance(refused.value, LunarError)
    assert "hunter2" not in str(refused.value) + repr(refused.value)
    assert refused.value.__cause__ is None


def test_a_repr_shows_no_password(where, opened):
    ledger = opened()
    assert "Ledger.open(" in repr(ledger)
    if SERVER and SERVER in where:
        password = SERVER.partition("lunar:")[2].partition("@")[0]
        assert password
        assert password not in repr(ledger) + str(vars(ledger)) + repr(
            vars(ledger._stored.database)
        )


def test_a_meta_table_without_a_version_is_no_ledger(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE lunar_meta (key TEXT, value TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is no ledger: its lunar_meta names no schema_version"):
        Ledger.open(path)
    assert path.read_bytes() == before
