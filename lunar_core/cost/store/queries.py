"""Queries of a store: entries in order, sums over them, and sums by groups."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Row,
    Text,
    case,
    cast,
    false,
    func,
    select,
    text,
    type_coerce,
)

from lunar_core.cost.book import Groups
from lunar_core.cost.entries import Entry, plain_text
from lunar_core.cost.selection import GROUPS, PERIODS, Selection, group_key, period
from lunar_core.cost.store.rows import entry_of
from lunar_core.cost.store.schema import Money, entries
from lunar_core.cost.totals import Sums

_PAGE = 2_000
_COLUMNS = {"model": "model_name"}
_Key = tuple[str | None, ...]


def read_page(
    connection: Connection, selection: Selection, after: int
) -> tuple[list[Entry], int | None]:
    """Entries after the row ``after``, in order, and the row to continue after; None on the last page."""
    statement = select(entries).where(entries.c.id > after, *conditions(connection, selection))
    rows = connection.execute(statement.order_by(entries.c.id).limit(_PAGE)).mappings().all()
    last = rows[-1]["id"] if len(rows) == _PAGE else None
    return [entry_of(dict(row)) for row in rows], last


def read_one(connection: Connection, call_id: str) -> Entry | None:
    """The entry of a call."""
    row = connection.execute(select(entries).where(entries.c.call_id == call_id)).mappings().first()
    return None if row is None else entry_of(dict(row))


def read_count(connection: Connection, selection: Selection) -> int:
    """How many entries match."""
    statement = select(func.count()).select_from(entries)
    return connection.execute(statement.where(*conditions(connection, selection))).scalar_one()


def read_sums(
    connection: Connection, selection: Selection, names: tuple[str, ...]
) -> dict[_Key, Sums]:
    """The sums of each group. Without names: of all entries, under ``()``."""
    keys = [_key(connection, name).label(f"key_{index}") for index, name in enumerate(names)]
    statement = select(*keys, *_sums(connection)).where(*conditions(connection, selection))
    # By position: PostgreSQL treats two parameters with the same value as two expressions.
    statement = statement.group_by(*(text(str(place)) for place in range(1, len(keys) + 1)))
    groups: dict[_Key, Sums] = {}
    for row in connection.execute(statement):
        key = tuple(_to_text(name, row[index]) for index, name in enumerate(names))
        # Several days form one week.
        groups[key] = (
            _read(row, len(names)).plus(groups[key]) if key in groups else _read(row, len(names))
        )
    return groups


def with_unwritten(
    groups: dict[_Key, Sums], unwritten: list[Entry], names: tuple[str, ...]
) -> Groups:
    """The groups as Totals, including entries that are not stored yet."""
    for entry in unwritten:
        key = tuple(group_key(entry, name) for name in names)
        groups.setdefault(key, Sums()).add(entry)
    return {key: sums.totals() for key, sums in groups.items()}


def known_calls(connection: Connection, call_ids: list[str]) -> set[str]:
    """Those of ``call_ids`` that are stored."""
    stored: set[str] = set()
    for start in range(0, len(call_ids), 500):
        part = call_ids[start : start + 500]
        stored.update(
            connection.execute(
                select(entries.c.call_id).where(entries.c.call_id.in_(part))
            ).scalars()
        )
    return stored


def conditions(connection: Connection, selection: Selection) -> Iterator[ColumnElement[bool]]:
    """The SQL conditions of ``selection``."""
    columns = entries.c
    if selection.empty:
        yield false()
    if selection.since is not None:
        yield columns.at >= selection.since
    if selection.until is not None:
        yield columns.at < selection.until
    if selection.model is not None:
        yield columns.model_name == plain_text(selection.model)
    if selection.endpoint is not None:
        yield columns.endpoint == selection.endpoint
    if selection.status is not None:
        yield columns.status == selection.status
    for name, value in selection.tags.items():
        held = member(connection, columns.tags, name)
        yield held.is_(None) if value is None else held == plain_text(value)


def _key(connection: Connection, name: str) -> ColumnElement[Any]:
    columns = entries.c
    if name in GROUPS:
        return columns[_COLUMNS.get(name, name)]
    if name in PERIODS:
        return columns.hour if name == "hour" else columns.hour - columns.hour % 24
    kind, _, key = name.partition(":")
    return member(connection, columns.tags if kind == "tag" else columns.labels, key)


def _to_text(name: str, value: Any) -> str | None:
    return period(int(value), name) if name in PERIODS else value


def member(connection: Connection, column: ColumnElement[str], name: str) -> ColumnElement[str]:
    """One member of a JSON object: text as it is, anything else as JSON, NULL if it is missing."""
    name = plain_text(name)  # as it is stored
    if connection.dialect.name == "postgresql":
        return cast(column, JSON).op("->>", return_type=Text())(name)
    return func.lunar_member(column, name, type_=Text())


def _sums(connection: Connection) -> list[ColumnElement[Any]]:
    columns = entries.c
    return [
        func.count(),
        func.sum(case((columns.endpoint == "router.decide", 0), else_=1)),
        func.sum(columns.prompt_tokens),
        func.sum(columns.completion_tokens),
        func.sum(columns.total_tokens),
        func.sum(columns.unpriced),
        func.sum(case((columns.estimated.is_(None), columns.unpriced), else_=0)),
        _exact_sum(connection, columns.cost),
        _exact_sum(connection, columns.saved),
        _exact_sum(connection, case((columns.cost.is_(None), columns.estimated))),
    ]


def _exact_sum(connection: Connection, amount: ColumnElement[Any]) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return func.sum(amount)
    return type_coerce(func.lunar_sum(amount, type_=Text()), Money())


def _read(row: Row[Any], start: int) -> Sums:
    sums = Sums()
    values = row[start:]
    (
        sums.entries,
        sums.calls,
        sums.prompt_tokens,
        sums.completion_tokens,
        sums.total_tokens,
        sums.unpriced,
        sums.unknown,
    ) = (int(value or 0) for value in values[:7])
    sums.cost, sums.saved, sums.estimated = (Decimal(value or 0) for value in values[7:])
    return sums
