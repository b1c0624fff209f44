"""Adds hourly sums up by hour, day, week or month: the finest unit that fits a chart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from lunar_core.cost.figures import MOST_ROWS, add_up
from lunar_core.cost.totals import Sums

MOST_PERIODS = 2 * MOST_ROWS
"""How many columns a chart has at most: the rows of two tables."""

UNITS = ("hour", "day", "week", "month")


def periods_of(hours: Mapping[str, Sums]) -> tuple[str, list[tuple[str, Sums]]]:
    """The unit, and each period's name and sums in order, including periods without calls.

    ``hours``: by the names of ``group("hour")``. Before the periods come "time unknown", for hours outside the
    calendar, and "earlier", if there are too many months.
    """
    dated: dict[datetime, Sums] = {}
    undated: list[Sums] = []
    for name, sums in hours.items():
        try:
            dated[datetime.strptime(f"{name}+0000", "%Y-%m-%dT%H%z")] = sums
        except ValueError:
            undated.append(sums)
    lead = [("time unknown", add_up(undated))] if undated else []
    if not dated:
        return UNITS[-1], lead
    unit, starts = _finest(min(dated), max(dated))
    periods = {start: Sums() for start in starts}
    earlier: list[Sums] = []
    for hour, sums in dated.items():
        start = _start_of(hour, unit)
        if start in periods:
            periods[start] = periods[start].plus(sums)
        else:
            earlier.append(sums)
    if earlier:
        lead.append(("earlier", add_up(earlier)))
    return unit, [*lead, *((_name_of(start, unit), sums) for start, sums in periods.items())]


def _finest(first: datetime, last: datetime) -> tuple[str, list[datetime]]:
    """The finest unit with few enough periods from ``first`` to ``last``, and the starts of its periods."""
    for unit in UNITS:
        starts, is_complete = _newest_starts(first, last, unit)
        if is_complete or unit == UNITS[-1]:
            return unit, starts
    raise ValueError("no units")


def _newest_starts(first: datetime, last: datetime, unit: str) -> tuple[list[datetime], bool]:
    """The starts of the last periods, in order, and whether they reach back to ``first``."""
    begin = _start_of(first, unit)
    starts = [_start_of(last, unit)]
    while starts[-1] > begin and len(starts) < MOST_PERIODS:
        starts.append(_start_of(starts[-1] - timedelta(hours=1), unit))
    return starts[::-1], starts[-1] <= begin


def _start_of(hour: datetime, unit: str) -> datetime:
    if unit == "hour":
        return hour
    day = hour.replace(hour=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())  # the calendar begins on a Monday
    return day.replace(day=1) if unit == "month" else day


def _name_of(start: datetime, unit: str) -> str:
    if unit == "hour":
        return start.strftime("%Y-%m-%d %H:%M")
    day = start.date().isoformat()
    return day.rpartition("-")[0] if unit == "month" else day
