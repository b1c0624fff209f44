"""The SQL of budgets, for SQLite and PostgreSQL. Each method is one atomic step.

On SQLite a step is a transaction that holds the file's lock from its beginning. On PostgreSQL the condition is in the
statement that changes the counter: after a wait for the row's lock it is evaluated again, while other rows would still
be read as they were before the wait. A rolling window has many rows, so it takes a lock of its own first.

Connections are the drivers' own, in autocommit. Nothing is set for a session, which a pooler may share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from typing import Any

from lunar_core.cost.budget.amounts import MOST
from lunar_core.cost.budget.counters import CounterSums

Row = Mapping[str, Any]

_SUMS = ", ".join(
    f"CAST(coalesce(sum({name}), 0) AS BIGINT)"
    for name in ("spent", "assumed", "held", "calls", "refused")
)
_WINDOW = "name = :name AND starts_at > :first AND starts_at < :last"
_READ = f"SELECT {_SUMS}, min(starts_at) FROM lunar_budgets WHERE key = :key AND {_WINDOW}"
_READ_ALL = f"SELECT key, {_SUMS}, min(starts_at) FROM lunar_budgets WHERE {_WINDOW} GROUP BY key"

_HOLD = "INSERT INTO lunar_holds (name, call_id, key, starts_at, amount, at)"
_HELD = (
    "CAST(:name AS TEXT), CAST(:call_id AS TEXT), CAST(:key AS TEXT), "
    "CAST(:starts_at AS DOUBLE PRECISION), CAST(:amount AS BIGINT), CAST(:at AS DOUBLE PRECISION)"
)
_COUNTER = """INSERT INTO lunar_budgets AS b (name, key, starts_at, resets_at, unit, per, period, timezone,
limit_last_used, spent, assumed, held, calls, refused)
SELECT CAST(:name AS TEXT), CAST(:key AS TEXT), CAST(:starts_at AS DOUBLE PRECISION),
CAST(:resets_at AS DOUBLE PRECISION), CAST(:unit AS TEXT), CAST(:per AS TEXT), CAST(:period AS TEXT),
CAST(:timezone AS TEXT), CAST(:limit AS BIGINT), 0, 0, """
_ELSE = (
    "ON CONFLICT (name, key, starts_at) DO UPDATE SET limit_last_used = excluded.limit_last_used,"
)
_COUNT = f"""CAST(:amount AS BIGINT), CAST(:calls AS BIGINT), 0 WHERE :amount <= :at_most
{_ELSE} held = b.held + excluded.held, calls = b.calls + excluded.calls"""
_REFUSE = f"{_COUNTER} 0, 0, 1 WHERE true {_ELSE} refused = b.refused + 1"

_THIS_HOLD = "name = :name AND call_id = :call_id"
_THIS_COUNTER = "name = :name AND key = :key AND starts_at = :starts_at"
_SPEND = f"""spent = spent + least(:spent, {MOST} - spent), assumed = assumed + least(:assumed, {MOST} - assumed)"""
_OLD_HOLDS = "name = :name AND key = :key AND at < :before AND amount > 0"
_OLDER = """name = :name AND key = :key AND starts_at <> :starts_at AND starts_at < (SELECT starts_at
FROM lunar_budgets WHERE name = :name AND key = :key ORDER BY starts_at DESC LIMIT 1 OFFSET :kept - 1)"""


class SQLiteSQL:
    """For connections of sqlite3."""

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[None]:
        """A transaction: all of it or nothing."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def execute(self, connection: Any, statement: str, values: Row) -> Any:
        """Run a statement, and return the driver's cursor."""
        return connection.execute(statement.replace("least(", "min("), values)

    def reserve(self, connection: Any, row: Row) -> tuple[bool, CounterSums]:
        """Hold ``amount`` if everything together is at most ``at_most``. Returns whether it is held, and the sums."""
        with self.transaction(connection):
            sums = read_sums(self, connection, row)
            if sums.spent + sums.held + row["amount"] > row["at_most"]:
                return False, sums
            added = self.execute(
                connection, f"{_HOLD} SELECT {_HELD} WHERE true ON CONFLICT DO NOTHING", row
            )
            if added.rowcount:  # else it is held already
                self.execute(connection, f"{_COUNTER} {_COUNT}", row)
                _add(sums, row)
            return True, sums

    def settle(self, connection: Any, row: Row) -> None:
        """Count a call whose hold still exists. Must be called in a transaction."""
        hold = self.execute(
            connection, f"SELECT amount FROM lunar_holds WHERE {_THIS_HOLD}", row
        ).fetchone()
        if hold is not None:
            self.execute(connection, f"DELETE FROM lunar_holds WHERE {_THIS_HOLD}", row)
            statement = (
                f"UPDATE lunar_budgets SET held = held - :amount, {_SPEND} WHERE {_THIS_COUNTER}"
            )
            self.execute(connection, statement, {**row, "amount": hold[0]})


class PostgresSQL:
    """For connections of psycopg."""

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[None]:
        """A transaction: all of it or nothing, without waiting for the disk."""
        with connection.transaction():
            connection.execute(f"SELECT {_NO_WAIT}")
            yield

    def execute(self, connection: Any, statement: str, values: Row) -> Any:
        """Run a statement, and return the driver's cursor."""
        return connection.execute(_translate(statement), values)

    def reserve(self, connection: Any, row: Row) -> tuple[bool, CounterSums]:
        """Hold ``amount`` if everything together is at most ``at_most``. Returns whether it is held, and the sums."""
        try:
            counter = self._reserve(connection, row)
        except Exception as error:
            if type(error).__name__ != "UniqueViolation":
                raise
            return True, read_sums(self, connection, row)  # it is held already
        if counter is None:
            return False, read_sums(self, connection, row)
        sums = CounterSums(*counter)
        if row["is_rolling"]:
            _add(sums, row)
        return True, sums

    def _reserve(self, connection: Any, row: Row) -> tuple[Any, ...] | None:
        """The sums: with this hold; for a rolling window, without it. None if it does not fit."""
        if not row["is_rolling"]:
            counter: tuple[Any, ...] | None = self.execute(connection, _RESERVE, row).fetchone()
            return None if counter is None else counter[:-1]
        with connection.pipeline(), connection.transaction():
            # The second statement sees what the previous holder of the lock has written.
            connection.execute(f"SELECT {_NO_WAIT}, pg_advisory_xact_lock({_lock_of(row)})")
            cursor = self.execute(connection, _RESERVE_ROLLING, row)
        rolling: tuple[Any, ...] | None = cursor.fetchone()
        return rolling

    def settle(self, connection: Any, row: Row) -> None:
        """Count a call whose hold still exists. Must be called in a transaction."""
        statement = f"""WITH gone AS (DELETE FROM lunar_holds WHERE {_THIS_HOLD} RETURNING amount)
        UPDATE lunar_budgets SET held = held - gone.amount, {_SPEND} FROM gone WHERE {_THIS_COUNTER}"""
        self.execute(connection, statement, row)


SQL = SQLiteSQL | PostgresSQL

_NO_WAIT = "set_config('synchronous_commit', 'off', true)"
_ADD_HOLD = f"hold AS ({_HOLD} SELECT {_HELD} FROM counter)"
_RESERVE = f"""WITH counter AS ({_COUNTER} {_COUNT}
WHERE b.spent + b.held + excluded.held <= :at_most
RETURNING b.spent, b.assumed, b.held, b.calls, b.refused, b.starts_at), {_ADD_HOLD}
SELECT spent, assumed, held, calls, refused, starts_at, {_NO_WAIT} FROM counter"""
_RESERVE_ROLLING = f"""WITH sums (spent, assumed, held, calls, refused, oldest) AS ({_READ}),
counter AS ({_COUNTER} CAST(:amount AS BIGINT), CAST(:calls AS BIGINT), 0 FROM sums
WHERE sums.spent + sums.held + :amount <= :at_most
{_ELSE} held = b.held + excluded.held, calls = b.calls + excluded.calls RETURNING b.starts_at), {_ADD_HOLD}
SELECT sums.* FROM sums, counter"""


def meet(sql: SQL, connection: Any, values: Row) -> str:
    """Store ``value`` under ``key`` if there is none. Returns the stored value."""
    with sql.transaction(connection):
        statement = (
            "INSERT INTO lunar_meta (key, value) VALUES (:key, :value) ON CONFLICT DO NOTHING"
        )
        sql.execute(connection, statement, values)
        cursor = sql.execute(connection, "SELECT value FROM lunar_meta WHERE key = :key", values)
        value: str = cursor.fetchone()[0]
        return value


def refuse(sql: SQL, connection: Any, row: Row) -> None:
    """Count a refused call."""
    with sql.transaction(connection):
        sql.execute(connection, _REFUSE, row)


def read_sums(sql: SQL, connection: Any, span: Row) -> CounterSums:
    """The sums over the counters of one key and window."""
    return CounterSums(*sql.execute(connection, _READ, span).fetchone())


def read_all_sums(sql: SQL, connection: Any, span: Row) -> list[tuple[str, CounterSums]]:
    """The same for every key that has counters."""
    return [
        (key, CounterSums(*sums))
        for key, *sums in sql.execute(connection, _READ_ALL, span).fetchall()
    ]


def release(sql: SQL, connection: Any, values: Row) -> int:
    """Release the holds of calls that began ``before``. Returns how many."""
    lock = " FOR UPDATE" if isinstance(sql, PostgresSQL) else ""
    with sql.transaction(connection):
        statement = f"SELECT call_id, starts_at, amount FROM lunar_holds WHERE {_OLD_HOLDS} ORDER BY call_id{lock}"
        holds = sql.execute(connection, statement, values).fetchall()
        for call_id, starts_at, amount in holds:
            row = {**values, "call_id": call_id, "starts_at": starts_at, "amount": amount}
            sql.execute(connection, f"UPDATE lunar_holds SET amount = 0 WHERE {_THIS_HOLD}", row)
            statement = f"UPDATE lunar_budgets SET held = held - :amount WHERE {_THIS_COUNTER}"
            sql.execute(connection, statement, row)
        return len(holds)


def drop_older(sql: SQL, connection: Any, values: Row) -> None:
    """Delete all but a key's newest windows, and the current one."""
    with sql.transaction(connection):
        for table in ("lunar_holds", "lunar_budgets"):
            sql.execute(connection, f"DELETE FROM {table} WHERE {_OLDER}", values)


def drop_long_past(sql: SQL, connection: Any, values: Row) -> None:
    """Delete every key's windows that began ``before``."""
    with sql.transaction(connection):
        for table in ("lunar_holds", "lunar_budgets"):
            sql.execute(
                connection,
                f"DELETE FROM {table} WHERE name = :name AND starts_at < :before",
                values,
            )


def _add(sums: CounterSums, row: Row) -> None:
    sums.held += row["amount"]
    sums.calls += row["calls"]
    sums.oldest = row["starts_at"] if sums.oldest is None else min(sums.oldest, row["starts_at"])


def _lock_of(row: Row) -> int:
    """The number of a budget key's lock in PostgreSQL: 64 bits, signed."""
    name = f"lunar {row['name']}\n{row['key']}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)


@cache
def _translate(statement: str) -> str:
    """The statement with psycopg's placeholders."""
    return re.sub(r":([a-z_]+)", r"%(\1)s", statement)
