"""The tables of a store, and the migration from older versions.

``lunar_entries`` has a row per call, in the order of writing. ``lunar_budgets`` has a counter for each budget, key and
window; ``lunar_holds`` has what calls under way have reserved there.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    inspect,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from lunar_core.errors import LedgerError

VERSION = 1


class Money(TypeDecorator[Decimal]):
    """An exact amount: NUMERIC on PostgreSQL, decimal digits as text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Numeric() if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


# Text that holds JSON, just as it was written, in both.
Json = Text

metadata = MetaData()

meta = Table(
    "lunar_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

entries = Table(
    "lunar_entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # Columns of sums come first: SQLite reads a row from its beginning.
    Column("at", Double, nullable=False),
    Column("hour", BigInteger, nullable=False),
    Column("unpriced", SmallInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("cost", Money),
    Column("saved", Money),
    Column("estimated", Money),
    Column("endpoint", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("provider", Text),
    Column("call_id", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("input_cost", Money),
    Column("output_cost", Money),
    Column("cache_input_cost", Money),
    Column("latency_ms", Double),
    Column("ttft_ms", Double),
    Column("cost_weight", Double),
    Column("streamed", SmallInteger, nullable=False),
    Column("error", Text),
    Column("labels", Json, nullable=False),
    Column("attempts", Json, nullable=False),
    Column("candidates", Json, nullable=False),
    Column("routing", Json),
    Column("estimate", Json),
    Index("lunar_entries_at", "at"),
)

budgets = Table(
    "lunar_budgets",
    metadata,
    Column("name", Text, primary_key=True),
    # "=" and the tag's value; empty for the calls without the tag.
    Column("key", Text, primary_key=True),
    # Where this counter's window, or its step of a rolling one, begins; 0 where the budget is for ever.
    Column("starts_at", Double, primary_key=True),
    Column("resets_at", Double),
    # What the budget is by: a name that is met again with another of these is refused.
    Column("unit", Text, nullable=False),
    Column("per", Text),
    Column("period", Text),
    Column("timezone", Text),
    # Whole units: 10⁻¹² USD, tokens or calls.
    Column("limit_last_used", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("assumed", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)

holds = Table(
    "lunar_holds",
    metadata,
    Column("name", Text, primary_key=True),
    Column("call_id", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("starts_at", Double, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
)


def _make_tables(connection: Connection) -> None:
    """From nothing to version 1."""
    metadata.create_all(connection, checkfirst=False, tables=[entries, budgets, holds])


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_make_tables,)
"""The step from each version to the next. The first creates version 1 in a store that has only `lunar_meta`."""


def version_of(connection: Connection, shown: str) -> int | None:
    """The version of the store's tables; None if there are none. Changes nothing.

    Raises LedgerError for a ``lunar_meta`` that is not ours, and for a newer version. ``shown``: the store's name in
    errors.
    """
    names = set(inspect(connection).get_table_names())
    if "lunar_meta" not in names:
        return None
    try:
        value = connection.execute(
            select(meta.c.value).where(meta.c.key == "schema_version")
        ).scalar()
        version = int(value or "")
    except ValueError:
        raise LedgerError(f"{shown} is no ledger: its lunar_meta names no schema_version") from None
    if version > VERSION:
        raise LedgerError(
            f"{shown} was made by a newer version of lunar_core: its schema_version is {version}, "
            f"this one knows {VERSION}"
        )
    return version


def make_or_migrate(connection: Connection, shown: str) -> None:
    """Bring the tables to the current version, in the current transaction. Raises LedgerError as ``version_of``."""
    version = version_of(connection, shown)
    if version is None:
        meta.create(connection, checkfirst=False)
        connection.execute(meta.insert().values(key="schema_version", value="0"))
        version = 0
    for migrate in MIGRATIONS[version:]:
        migrate(connection)
    if version < VERSION:
        connection.execute(
            update(meta).where(meta.c.key == "schema_version").values(value=str(VERSION))
        )
