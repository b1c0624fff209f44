"""The window of a budget that a moment belongs to, and when it ends. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Literal, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lunar_core.errors import ConfigurationError

Calendar = Literal["hour", "day", "week", "month"]

STEPS = 60
"""How many steps a rolling window has. Each has a counter of its own."""


_SECONDS = {"hour": 3_600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_678_400.0}


class Windows:
    """The windows of a budget. ``period``: a calendar word, the seconds of a rolling window, or None: for ever.

    Each window, or step of a rolling one, has its own counter. It is named by the moment at which it begins, in seconds
    since the epoch, so that a clock that is set back finds earlier counts.
    """

    def __init__(self, period: Calendar | float | None, timezone: tzinfo) -> None:
        self.period = period
        self.timezone = timezone
        self._last = (math.inf, -math.inf)  # the last window: start and end

    @classmethod
    def parse(cls, window: object, zone: object) -> Windows:
        """Read a Budget's ``window`` and ``timezone``. Raises ConfigurationError that names the wrong one."""
        return cls(_checked_period(window), _checked_zone(zone))

    def start(self, now: float) -> float:
        """The start of the counter for a call that begins ``now``. Raises ConfigurationError for an impossible time."""
        start, end = self._last
        if start <= now < end:
            return start
        try:
            start = self._start(now)
            self._last = start, self._end(start)
        except (ValueError, OverflowError, OSError):
            raise ConfigurationError(
                f"clock: expected seconds since the epoch, not {now}"
            ) from None
        return start

    def _start(self, now: float) -> float:
        if self.period is None:
            return 0.0
        if isinstance(self.period, float):
            return math.floor(now / self._step) * self._step
        local = datetime.fromtimestamp(now, self.timezone)
        if self.period == "hour":
            return float(math.floor(now) - local.minute * 60 - local.second)
        day = local.replace(tzinfo=None)
        if self.period == "week":
            day -= timedelta(days=day.weekday())
        return _midnight(day.replace(day=1) if self.period == "month" else day, self.timezone)

    def _end(self, start: float) -> float:
        if self.period is None:
            return math.inf
        if isinstance(self.period, float):
            return start + self._step
        if self.period == "hour":
            return start + 3600
        first = datetime.fromtimestamp(start, self.timezone).replace(tzinfo=None)
        if self.period == "month":
            in_next_month = first.replace(day=1) + timedelta(days=32)
            return _midnight(in_next_month.replace(day=1), self.timezone)
        return _midnight(first + timedelta(days=7 if self.period == "week" else 1), self.timezone)

    def span(self, now: float) -> tuple[float, float]:
        """Two moments: counters that begin between them count for ``now``.

        A rolling window also includes steps ahead, for its whole length: a clock that is set back must not free spent
        amounts, and other machines' clocks may be a little ahead.
        """
        start = self.start(now)
        if isinstance(self.period, float):
            return start - (STEPS + 0.5) * self._step, start + (STEPS + 0.5) * self._step
        return start - 0.5, start + 0.5

    def bounds(self, now: float, oldest: float | None) -> tuple[float | None, float | None]:
        """When the window began and when it resets; None for never.

        ``oldest``: the start of the oldest counter in use of a rolling window. The window resets a little at the
        returned moment, when this counter drops out. Without such a counter there is nothing to reset.
        """
        if self.period is None:
            return None, None
        start = self.start(now)
        if isinstance(self.period, float):
            resets_at = None if oldest is None else oldest + (STEPS + 1) * self._step
            return start - STEPS * self._step, resets_at
        return start, self._end(start)

    def ordinal(self, now: float) -> float:
        """A number for the window, to do something once in each."""
        return math.floor(now / self.period) if isinstance(self.period, float) else self.start(now)

    @property
    def kept(self) -> int | None:
        """How many of a key's newest counters are kept. None: there is only one."""
        if self.period is None:
            return None
        return 2 * (STEPS + 1) if isinstance(self.period, float) else 4

    def long_past(self, start: float) -> float:
        """Counters that begin before this moment are no longer needed, if the window begins at ``start``."""
        if self.period is None:
            return -math.inf
        length = self.period if isinstance(self.period, float) else _SECONDS[self.period]
        return start - 4 * length

    @property
    def zone_name(self) -> str:
        """The timezone's name, for a store to compare."""
        name = getattr(self.timezone, "key", None) or self.timezone.tzname(None)
        return str(name or type(self.timezone).__name__)

    @property
    def _step(self) -> float:
        return self.period / STEPS if isinstance(self.period, float) else math.inf


def _midnight(day: datetime, zone: tzinfo) -> float:
    """The first moment of a day, even if a change of the clock skips midnight or repeats it."""
    at_midnight = day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return at_midnight.replace(tzinfo=zone).timestamp()


def _checked_period(window: object) -> Calendar | float | None:
    if isinstance(window, timedelta):
        if window <= timedelta(0):
            raise ConfigurationError("window: expected a timedelta of more than 0")
        return window.total_seconds()
    if window in get_args(Calendar):
        return cast("Calendar", window)
    if window is None:
        return None
    raise ConfigurationError(
        f"window: expected None, 'hour', 'day', 'week', 'month' or a timedelta, not {window!r}"
    )


def _checked_zone(zone: object) -> tzinfo:
    if isinstance(zone, str):
        if zone == "UTC":
            return timezone.utc  # works without time zone data
        try:
            return ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"timezone: {zone!r} is not known here (a name such as 'Europe/Rome'; the package tzdata has them all)"
            ) from None
    if isinstance(zone, tzinfo):
        return zone
    raise ConfigurationError("timezone: expected a tzinfo or a name such as 'Europe/Rome'")
