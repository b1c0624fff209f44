"""Which window of a budget a moment belongs to: calendars with their changes of the clock, and rolling ones."""

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from lunar_core import ConfigurationError
from lunar_core.cost.budget.windows import STEPS, Windows


def at(text, zone="UTC"):
    """Seconds since the epoch of a local time; the second of two with ``fold`` at its end."""
    moment = datetime.fromisoformat(text.removesuffix(" fold"))
    return moment.replace(tzinfo=ZoneInfo(zone), fold=text.endswith(" fold")).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "starts", "resets"),
    [
        ("hour", "2026-03-04 10:59:59", "2026-03-04 10:00", "2026-03-04 11:00"),
        ("day", "2026-03-04 10:59:59", "2026-03-04", "2026-03-05"),
        ("day", "2026-03-04 00:00", "2026-03-04", "2026-03-05"),
        ("week", "2026-03-08 23:59", "2026-03-02", "2026-03-09"),
        ("week", "2026-03-02 00:00", "2026-03-02", "2026-03-09"),
        ("month", "2026-12-31 23:59", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29 12:00", "2028-02-01", "2028-03-01"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Rome", "Asia/Kolkata"])
def test_calendars_are_those_of_the_timezone(window, now, starts, resets, zone):
    windows = Windows.parse(window, zone)
    assert windows.start(at(now, zone)) == at(starts, zone)
    assert windows.bounds(at(now, zone), None) == (at(starts, zone), at(resets, zone))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Rome", "2026-03-29", 23),
        ("Europe/Rome", "2026-10-25", 25),
        ("Africa/Cairo", "2023-04-28", 23),  # midnight itself was left out
        ("America/Havana", "2026-11-01", 25),  # midnight came twice
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
    ],
)
def test_a_day_on_which_the_clock_changes_is_one_window(zone, day, hours):
    windows = Windows.parse("day", zone)
    starts, resets = windows.bounds(at(f"{day} 12:00", zone), None)
    assert resets - starts == hours * 3600
    moments = [starts + minutes * 60 for minutes in range(int(hours * 60))]
    assert {windows.start(moment) for moment in moments} == {starts}
    assert windows.start(resets) == resets
    assert windows.start(starts - 1) < starts


@pytest.mark.parametrize(
    "zone", ["Europe/Rome", "America/Havana", "Africa/Cairo", "Asia/Kathmandu"]
)
def test_no_hour_of_a_year_is_counted_twice(zone):
    windows = Windows.parse("hour", zone)
    starts = [windows.start(at("2026-01-01") + hour * 3600) for hour in range(365 * 24)]
    assert {later - earlier for earlier, later in pairwise(starts)} == {3600}


def test_a_rolling_window_forgets_at_most_one_step_late_and_never_early():
    windows, length = Windows.parse(timedelta(hours=1), "UTC"), 3600.0
    for now in (0.0, 59.9, 60.0, 1_790_000_000.25):
        counter = windows.start(now)

        def counts(moment, counter=counter):
            first, last = windows.span(moment)
            return first < counter < last

        assert counts(now)
        assert counts(now + length)
        assert not counts(now + length + length / STEPS)
        resets_at = windows.bounds(now, counter)[1]
        assert now + length < resets_at <= now + length + length / STEPS
        assert counts(resets_at - 0.001)
        assert not counts(resets_at)


def test_a_rolling_window_counts_what_a_clock_set_back_left_ahead():
    windows = Windows.parse(timedelta(minutes=1), "UTC")
    counter = windows.start(1000.0)
    for back in (1, 30, 59):
        first, last = windows.span(1000.0 - back)
        assert first < counter < last


def test_for_ever_has_one_window():
    windows = Windows.parse(None, "UTC")
    assert windows.start(-1.0) == windows.start(1e12) == 0.0
    assert windows.bounds(5.0, 0.0) == (None, None)


@pytest.mark.parametrize(
    "window", ["year", "Day", "", 60, timedelta(0), timedelta(seconds=-1), True, ["day"]]
)
def test_another_window_is_refused(window):
    with pytest.raises(ConfigurationError, match=r"^window: "):
        Windows.parse(window, "UTC")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", 2, None, "a\0b"])
def test_another_timezone_is_refused(zone):
    with pytest.raises(ConfigurationError, match=r"^timezone: "):
        Windows.parse("day", zone)


def test_a_timezone_has_a_name_to_know_it_by():
    names = [Windows.parse(None, zone).zone_name for zone in ("UTC", timezone.utc, "Europe/Rome")]
    assert names == ["UTC", "UTC", "Europe/Rome"]
    assert Windows.parse(None, timezone(timedelta(hours=2))).zone_name == "UTC+02:00"


@pytest.mark.parametrize("now", [1.8e12, -1e15])
def test_a_clock_of_another_kind_is_named(now):
    with pytest.raises(ConfigurationError, match=r"^clock: "):
        Windows.parse("day", "UTC").start(now)
