"""Writes a batch in one transaction. An item that cannot be written does not hold up the others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DataError, IntegrityError

from lunar_core.cost.store.database import Database
from lunar_core.cost.store.items import Labels, Recorded, Work
from lunar_core.cost.store.rows import dump_json, encode, row_of
from lunar_core.cost.store.schema import entries

logger = logging.getLogger("lunar_core")

# Errors that one item causes. Any other error is the store's: the whole batch is tried again.
_OF_AN_ITEM = (
    ArithmeticError,
    AttributeError,
    DataError,
    IntegrityError,
    LookupError,
    TypeError,
    ValueError,
)


def write_batch(database: Database, batch: Sequence[Recorded | Labels | Work]) -> int:
    """Write ``batch``. Returns how many of its entries no database takes; these are logged.

    Raises the database's error if it cannot be reached or is full. Nothing of the batch is then written.
    """
    rows, lost = _rows(database, batch)
    try:
        with database.writing() as connection:
            if rows:
                _insert(connection, rows)
            for item in batch:
                _write_other(connection, item)
    except _OF_AN_ITEM:  # one item is at fault: write each by itself
        with database.writing() as connection:
            for row in rows:
                lost += not _write_alone(
                    database, connection, f"the entry of call {row['call_id']}", _row_writer(row)
                )
            for item in batch:
                name = f"what was to be written with the entries ({type(item).__name__})"
                _write_alone(database, connection, name, _item_writer(item))
    return lost


def _rows(
    database: Database, batch: Sequence[Recorded | Labels | Work]
) -> tuple[list[dict[str, object]], int]:
    """The rows of the entries, and how many entries cannot become a row."""
    rows, lost = [], 0
    for item in batch:
        if isinstance(item, Recorded):
            try:
                rows.append(row_of(item.entry))
            except Exception as error:  # noqa: BLE001  # an entry may hold any object: it is logged and counted as lost
                _log_failure(database, f"the entry of call {item.call_id}", error)
                lost += 1
    return rows, lost


def _write_other(connection: Connection, item: Recorded | Labels | Work) -> None:
    if isinstance(item, Labels):
        _add_labels(connection, item)
    elif not isinstance(item, Recorded):
        item.write(connection)


def _row_writer(row: dict[str, object]) -> Callable[[Connection], object]:
    return lambda connection: _insert(connection, [row])


def _item_writer(item: Recorded | Labels | Work) -> Callable[[Connection], object]:
    return lambda connection: _write_other(connection, item)


def _write_alone(
    database: Database, connection: Connection, name: str, write: Callable[[Connection], object]
) -> bool:
    """Write one thing. Returns False, and logs why, if it cannot be written."""
    try:
        with connection.begin_nested():
            write(connection)
    except _OF_AN_ITEM as error:
        _log_failure(database, name, error)
        return False
    return True


def _log_failure(database: Database, name: str, error: Exception) -> None:
    logger.error(
        "%s: %s cannot be written: %s", database.address.shown, name, database.words_of(error)
    )


def _insert(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    """Insert rows, in order. ``call_id`` is unique: a call that any process has recorded is not changed.

    Through the driver, because SQLAlchemy takes several times as long. PostgreSQL gets the rows as one document, SQLite
    one by one.
    """
    names = ", ".join(rows[0])  # each row has the same, in the same order
    if connection.dialect.name == "postgresql":
        source = f"SELECT {names} FROM json_populate_recordset(NULL::lunar_entries, %s)"  # noqa: S608  # column names of row_of()
        values: tuple[str] | list[tuple[object, ...]] = (encode(rows),)
    else:
        source = f"VALUES ({', '.join('?' * len(rows[0]))})"
        values = [tuple(row.values()) for row in rows]
    statement = (
        f"INSERT INTO lunar_entries ({names}) {source} ON CONFLICT (call_id) DO NOTHING"  # as above
    )
    connection.exec_driver_sql(statement, values)


def _add_labels(connection: Connection, item: Labels) -> None:
    row = entries.c.call_id == item.call_id
    labels = connection.execute(select(entries.c.labels).where(row).with_for_update()).scalar()
    if labels is not None:
        merged = {**json.loads(labels), **json.loads(dump_json(item.labels))}
        connection.execute(update(entries).where(row).values(labels=dump_json(merged)))
