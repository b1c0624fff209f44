"""Reads a report's figures from a store: sums and counts from the database, and routed answers one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    case,
    cast,
    desc,
    func,
    or_,
    select,
    text,
)

from lunar_core.cost.budget.amounts import to_public_amount
from lunar_core.cost.figures import MOST_MS, BudgetFigures, Figures, add_up
from lunar_core.cost.savings import UNROUTED_ENDPOINTS, RoutedCall, SavingsTally
from lunar_core.cost.selection import Selection
from lunar_core.cost.store.queries import conditions, member, read_sums
from lunar_core.cost.store.schema import budgets, entries
from lunar_core.wire.api_requests import ROUTER

_ROWS_AT_ONCE = 2_000


def read_figures(
    connection: Connection, selection: Selection, figures: Figures, *, most_budgets: int
) -> None:
    """Fill ``figures``, all of one moment: ``connection`` is a snapshot."""
    columns = entries.c
    selected = list(conditions(connection, selection))
    figures.groups = read_sums(connection, selection, figures.by)
    figures.total = add_up(figures.groups.values())
    hours = read_sums(connection, selection, ("hour",))
    figures.hours = {name or "?": sums for (name,), sums in hours.items()}
    figures.latency = _read_times(connection, columns.latency_ms, selected)
    figures.first_token = _read_times(connection, columns.ttft_ms, selected)
    failures = select(columns.status, columns.error, func.count()).where(
        *selected, columns.status != "ok"
    )
    for status, error, count in connection.execute(
        failures.group_by(columns.status, columns.error)
    ):
        figures.failures[status, error] += count
    source = member(connection, columns.estimate, "source")
    estimated = and_(columns.estimate.is_not(None), columns.cost.is_(None))
    sources = connection.execute(select(source).where(*selected, estimated).distinct()).scalars()
    figures.estimate_sources.update(filter(None, sources))
    read_routed(connection, selection, figures.savings)
    figures.budgets = _read_budgets(connection, most_budgets)
    keys = select(budgets.c.name, budgets.c.key).distinct().subquery()
    figures.budget_count = connection.execute(select(func.count()).select_from(keys)).scalar_one()


def read_routed(connection: Connection, selection: Selection, tally: SavingsTally) -> None:
    """Add the routed answers to ``tally``. A sum would not do: each has its own tokens and candidates."""
    columns = entries.c
    statement = select(
        columns.model_name,
        columns.candidates,
        columns.prompt_tokens,
        columns.completion_tokens,
        columns.cached_tokens,
        columns.cost,
    ).where(
        *conditions(connection, selection),
        columns.status == "ok",
        columns.endpoint.not_in(UNROUTED_ENDPOINTS),
        or_(
            columns.routing.is_not(None),
            columns.endpoint == "router",
            columns.requested_model == ROUTER,
        ),
    )
    for model, candidates, prompt, completion, cached, cost in _stream(connection, statement):
        tally.add(RoutedCall(model, _candidates(candidates), prompt, completion, cached or 0, cost))


def _stream(connection: Connection, statement: Any) -> Iterator[Any]:
    """Rows as they are read: a million at once would fill the memory."""
    options = {"stream_results": True, "yield_per": _ROWS_AT_ONCE}
    return iter(connection.execute(statement, execution_options=options))


@lru_cache(maxsize=1_024)
def _candidates(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _read_times(
    connection: Connection, column: ColumnElement[Any], selected: list[ColumnElement[bool]]
) -> Counter[int]:
    """How many calls took so many whole milliseconds."""
    rounded: ColumnElement[Any] = case((column > MOST_MS, MOST_MS), else_=column) + 0.5
    if connection.dialect.name == "postgresql":  # whose CAST rounds, where SQLite's cuts off
        rounded = func.floor(rounded)
    milliseconds = cast(rounded, BigInteger)
    statement = select(milliseconds, func.count()).where(*selected, column >= 0)
    rows = connection.execute(statement.group_by(text("1")))
    return Counter({int(value): count for value, count in rows})


def _read_budgets(connection: Connection, most: int) -> list[BudgetFigures]:
    """The ``most`` budgets that refused the most, and then spent the most, each over all its windows."""
    columns = budgets.c
    sums = (
        select(
            columns.name,
            columns.key,
            func.sum(columns.spent).label("spent"),
            func.sum(columns.refused).label("refused"),
            func.max(columns.starts_at).label("newest"),
        )
        .group_by(columns.name, columns.key)
        .subquery()
    )
    newest = and_(
        columns.name == sums.c.name,
        columns.key == sums.c.key,
        columns.starts_at == sums.c.newest,
    )
    statement = (
        select(budgets, sums.c.spent.label("all_spent"), sums.c.refused.label("all_refused"))
        .join(sums, newest)
        .order_by(desc(sums.c.refused), desc(sums.c.spent), columns.name, columns.key)
        .limit(most)
    )
    rows = connection.execute(statement)
    return [
        BudgetFigures(
            name=row[columns.name],
            per=row[columns.per],
            key=row[columns.key][1:] if row[columns.key] else None,
            window=row[columns.period],
            unit=row[columns.unit],
            limit=to_public_amount(row[columns.limit_last_used], row[columns.unit]),
            spent=to_public_amount(int(row["all_spent"]), row[columns.unit]),
            refused=int(row["all_refused"]),
        )
        for row in rows.mappings()
    ]
