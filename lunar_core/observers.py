"""Who watches the calls: each observer may refuse a call before it is made and is told once of its outcome.

This is where cost ledgers, budgets and tracing attach, because both frameworks swallow what their
own callback handlers raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from lunar_core.errors import ConfigurationError, LunarError
from lunar_core.wire.completions import CallInfo, RoutingDecision
from lunar_core.wire.usage import Usage

Endpoint = Literal["chat.completions", "completions", "router", "router.decide"]
Status = Literal["ok", "failed", "aborted"]

_TAGS: ContextVar[Mapping[str, str]] = ContextVar("lunar_tags", default=MappingProxyType({}))


@contextmanager
def tags(**names: str) -> Iterator[None]:
    """Name what the calls in this block are for; ledgers add costs up by these names.

    Blocks nest, the inner value wins, and asyncio tasks started inside carry them along.

    >>> with tags(user="u1"), tags(feature="search"):
    ...     current_tags()
    {'user': 'u1', 'feature': 'search'}
    """
    token = _TAGS.set({**_TAGS.get(), **{name: str(value) for name, value in names.items()}})
    try:
        yield
    finally:
        _TAGS.reset(token)


def current_tags() -> dict[str, str]:
    """The tags of the block that is running, as a dict of its own."""
    return dict(_TAGS.get())


@dataclass(frozen=True)
class CallStart:
    """A call about to be made. ``params`` is what would be sent: read it, don't change it."""

    call_id: str
    endpoint: Endpoint
    model: str
    params: Mapping[str, object] = field(repr=False)
    stream: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a call ended: told once for each ``call.call_id``.

    ``status`` is "aborted" when the caller closed a stream before its end. ``usage`` is None when
    the service never stated it: then what the call cost is unknown, not zero.
    """

    call: CallInfo
    endpoint: Endpoint
    status: Status
    model: str
    """The model that answered; the one that was asked where none did."""
    provider: str | None = None
    usage: Usage | None = None
    routing: RoutingDecision | None = None
    error: LunarError | None = None
    streamed: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


class Observer(Protocol):
    """Methods must not block for long: the async client calls them on its event loop."""

    def before(self, call: CallStart, /) -> None:
        """Raise a LunarError (say, BudgetExceededError) to refuse the call: it reaches the caller, nothing is sent."""

    def after(self, outcome: Outcome, /) -> None:
        """Told once per call that ``before`` let through. What it raises is logged: the answer was paid for."""


def checked_observers(value: object) -> tuple[Observer, ...]:
    """The observers in ``value``. A bare Ledger, say, is iterable too, and would pass for an empty list."""
    if isinstance(value, (list, tuple)) and all(map(_observes, value)):
        return tuple(value)
    raise ConfigurationError(
        "observers: expected a list of objects with before() and after(), such as [Ledger()]"
    )


def _observes(value: object) -> bool:
    methods = (getattr(value, name, None) for name in ("before", "after"))
    return not isinstance(value, type) and all(map(callable, methods))
