"""Selects and groups entries: arguments are checked here, for ledgers in memory and stored ones. Pure."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import get_args

from lunar_core.cost.entries import Entry, model_name, plain_json
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Endpoint, Status

GROUPS = ("model", "requested_model", "provider", "endpoint", "status")
PERIODS = ("hour", "day", "week", "month")
PREFIXES = ("tag:", "label:")

_ENDPOINTS = (*get_args(Endpoint), "cache")
_STATUSES = get_args(Status)
_NEVER = 10**15


@dataclass(frozen=True)
class Selection:
    """The entries that ``where`` selects. None means any. ``since`` is included, ``until`` is not (epoch seconds).

    ``model``: a name without its provider, as in ``by_model``. A tag that is None selects entries without it.
    """

    since: float | None = None
    until: float | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)
    model: str | None = None
    endpoint: str | None = None
    status: str | None = None
    empty: bool = False
    """Whether two conditions contradict each other, so that nothing is selected."""

    @classmethod
    def parse(
        cls,
        *,
        since: object = None,
        until: object = None,
        tags: object = None,
        model: object = None,
        endpoint: object = None,
        status: object = None,
    ) -> Selection:
        """Read the arguments of ``where``. Raises ConfigurationError that names the wrong one."""
        named = _text(model, "model")
        return cls(
            _moment(since, "since"),
            _moment(until, "until"),
            _tags(tags),
            None if named is None else model_name(named),
            _word(endpoint, "endpoint", _ENDPOINTS),
            _word(status, "status", _STATUSES),
        )

    def within(self, outer: Selection) -> Selection:
        """The entries that both select."""
        pairs = [
            (getattr(self, name), getattr(outer, name)) for name in ("model", "endpoint", "status")
        ]
        common = self.tags.keys() & outer.tags.keys()
        contradicts = any(None not in pair and pair[0] != pair[1] for pair in pairs) or any(
            self.tags[name] != outer.tags[name] for name in common
        )
        return replace(
            self,
            since=max((at for at in (self.since, outer.since) if at is not None), default=None),
            until=min((at for at in (self.until, outer.until) if at is not None), default=None),
            tags={**outer.tags, **self.tags},
            model=self.model if self.model is not None else outer.model,
            endpoint=self.endpoint if self.endpoint is not None else outer.endpoint,
            status=self.status if self.status is not None else outer.status,
            empty=self.empty or outer.empty or contradicts,
        )

    def holds(self, entry: Entry) -> bool:
        """Whether ``entry`` is selected."""
        return (
            not self.empty
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
            and (self.model is None or entry.model_name == self.model)
            and (self.endpoint is None or entry.endpoint == self.endpoint)
            and (self.status is None or entry.status == self.status)
            and all(entry.tags.get(name) == value for name, value in self.tags.items())
        )


EVERYTHING = Selection()


def checked_groups(names: tuple[object, ...], argument: str = "group") -> tuple[str, ...]:
    """``names``, if entries can be grouped by each. Raises ConfigurationError."""
    if not names:
        raise ConfigurationError(f"{argument}: expected at least one of {_words()}")
    for name in names:
        if not isinstance(name, str) or not (
            name in (*GROUPS, *PERIODS) or any(name.startswith(p) and name != p for p in PREFIXES)
        ):
            raise ConfigurationError(f"{argument}: expected some of {_words()}, not {name!r}")
    return tuple(map(str, names))


def group_key(entry: Entry, name: str) -> str | None:
    """The key of ``entry`` in groups by ``name``."""
    if name == "model":
        return entry.model_name
    if name in GROUPS:
        value: str | None = getattr(entry, name)
        return value
    if name in PERIODS:
        return period(hour_of(entry.at), name)
    kind, _, key = name.partition(":")
    return entry.tags.get(key) if kind == "tag" else label_text(entry.labels.get(key))


def label_text(value: object) -> str | None:
    """A label as the key of a group: text as it is, anything else as JSON."""
    plain = plain_json(value)
    return (
        plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    )


def hour_of(at: float) -> int:
    """The hour of an epoch second, counted from the epoch. For infinity or NaN: one that no calendar has."""
    return math.floor(at / 3600) if math.isfinite(at) else _NEVER


def period(hour: int, name: str) -> str:
    """The name of the hour, day, week (by its Monday) or month, in UTC.

    >>> [period(hour_of(1772360000), name) for name in PERIODS]
    ['2026-03-01T10', '2026-03-01', '2026-02-23', '2026-03']
    """
    try:
        moment = datetime.fromtimestamp(hour * 3600, timezone.utc)
        if name == "week":
            moment -= timedelta(days=moment.weekday())
    except (OverflowError, ValueError, OSError):
        return "?"  # outside of any calendar: an entry may hold any number
    return moment.strftime({"hour": "%Y-%m-%dT%H", "month": "%Y-%m"}.get(name, "%Y-%m-%d"))


def _moment(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        return time.time() - value.total_seconds()
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ConfigurationError(
                f"{name}: expected a datetime with a time zone, such as datetime.now(timezone.utc)"
            )
        return value.timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):
            seconds = float(value)
            if math.isfinite(seconds):
                return seconds
    raise ConfigurationError(
        f"{name}: expected a datetime with a time zone, epoch seconds, or a timedelta (so long ago)"
    )


def _tags(value: object) -> dict[str, str | None]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError("tags: expected a mapping of names to values")
    return {name: None if held is None else str(held) for name, held in value.items()}


def _text(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{name}: expected text")
    return value


def _word(value: object, name: str, words: tuple[str, ...]) -> str | None:
    if value is not None and value not in words:
        raise ConfigurationError(f"{name}: expected one of {', '.join(words)}, not {value!r}")
    return _text(value, name)


def _words() -> str:
    return ", ".join((*GROUPS, *PERIODS, "tag:NAME", "label:NAME"))
