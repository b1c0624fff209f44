"""Observers of calls: each may refuse a call before it is sent, and gets the outcome of each call once.

An observer belongs to a client, or to a block of code (``observing``). Ledgers, budgets and tracing are observers,
and not callback handlers of the frameworks, because both frameworks swallow the errors of their handlers.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from lunar_core.errors import ConfigurationError
from lunar_core.types.completions import CallInfo, ChatCompletion, Completion, RoutingDecision
from lunar_core.types.usage import Usage

Endpoint = Literal["chat.completions", "completions", "router", "router.decide"]
Status = Literal["ok", "failed", "aborted", "refused"]

_OBSERVERS: ContextVar[tuple[Observer, ...]] = ContextVar("lunar_observers", default=())
_FIND_SPAN: ContextVar[Callable[[], object | None] | None] = ContextVar(
    "lunar_find_span", default=None
)
_TAGS: ContextVar[Mapping[str, str]] = ContextVar("lunar_tags", default=MappingProxyType({}))


@contextmanager
def tags(**names: str) -> Iterator[None]:
    """Set tags for the calls in this block, such as a user or a feature. Ledgers add costs up by tag.

    Blocks may be nested; the inner value wins. Asyncio tasks that start inside inherit the tags.

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
    """The tags of the current block, as a new dict.

    >>> with tags(user="u1"):
    ...     current_tags()
    {'user': 'u1'}
    """
    return dict(_TAGS.get())


def observing(*observers: Observer) -> AbstractContextManager[None]:
    """Add observers to every call that begins in this block, by any client, also inside either framework.

    They come after the client's own observers. An object that is in both is called once. Blocks may be nested. Asyncio
    tasks that start inside, and LangChain's threads, inherit the observers. Raises ConfigurationError for an object
    that is no observer.

    >>> from lunar_core import Ledger
    >>> with observing(Ledger()) as nothing:
    ...     len(with_current_observers(()))
    1
    """
    return _observing(checked_observers(observers))


@contextmanager
def _observing(observers: tuple[Observer, ...]) -> Iterator[None]:
    token = _OBSERVERS.set((*_OBSERVERS.get(), *observers))
    try:
        yield
    finally:
        _OBSERVERS.reset(token)


def with_current_observers(own: Sequence[Observer]) -> tuple[Observer, ...]:
    """A client's ``own`` observers, then those of the current blocks, each object once."""
    current = _OBSERVERS.get()
    if not current:
        return tuple(own)
    return tuple({id(observer): observer for observer in (*own, *current)}.values())


@contextmanager
def within_span(find: Callable[[], object | None]) -> Iterator[None]:
    """Set the function that finds a tracer's OpenTelemetry span (or None) for each call that begins in this block.

    The frameworks' layers need it: their tracers neither make the span current, nor mark it as an LLM's at its start.
    """
    token = _FIND_SPAN.set(find)
    try:
        yield
    finally:
        _FIND_SPAN.reset(token)


def find_callers_span() -> object | None:
    """The span that the function of ``within_span`` finds; None outside of such a block."""
    find = _FIND_SPAN.get()
    return None if find is None else find()


@dataclass(frozen=True)
class CallStart:
    """A call before it is sent. ``params`` are the parameters to be sent, and must not be changed.

    >>> class Refuser:
    ...     def before(self, call):
    ...         if call.model == "gpt-4":
    ...             raise BudgetExceededError(f"{call.model} is too dear for {call.endpoint}")
    ...     def after(self, outcome): ...
    >>> client = Lunar(observers=[Refuser()])
    """

    call_id: str
    endpoint: Endpoint
    model: str
    params: Mapping[str, object] = field(repr=False)
    stream: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    """Every model that may answer: the named one and its fallbacks, or the router's candidates; () if unknown."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended. There is one for each ``call.call_id``.

    ``status``: "aborted" if the caller closed a stream before its end or stopped waiting. "refused" if another observer
    refused the call, or it was cancelled in an observer's ``before``: then nothing was sent. ``usage``: None if the
    service never stated it; then the cost of the call is unknown, not zero.

    >>> class Counter:
    ...     statuses = []
    ...     def before(self, call): ...
    ...     def after(self, outcome):
    ...         self.statuses.append((outcome.model, outcome.status, outcome.usage.total_tokens))
    >>> with Lunar(observers=[Counter()]) as client:
    ...     answer = client.completions.create(model="gpt-4o", prompt="Count to 5")
    >>> Counter.statuses
    [('gpt-4o', 'ok', 8)]
    """

    call: CallInfo
    endpoint: Endpoint
    status: Status
    model: str
    """The model that answered; the requested one if none did."""
    provider: str | None = None
    usage: Usage | None = None
    routing: RoutingDecision | None = None
    error: BaseException | None = None
    """A LunarError; for a refused call, whatever the observer raised."""
    streamed: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict, repr=False)
    """The parameters of the call, as in CallStart."""
    candidates: tuple[str, ...] = ()
    """The models that the router had to choose from; () if the call named none, or was not routed."""
    cost_weight: float | None = None
    """The ``cost_weight`` of a routed call."""
    from_finalizer: bool = False
    """Whether a finalizer reports it, for a dropped stream, in a thread of its own."""
    read_answer: Callable[[], ChatCompletion | Completion | None] | None = field(
        default=None, repr=False, compare=False
    )
    """Makes the result of ``answer()``."""

    def answer(self) -> ChatCompletion | Completion | None:
        """The answer as far as it came; None if nothing came. Each call assembles it anew."""
        return None if self.read_answer is None else self.read_answer()


class Observer(Protocol):
    """Observes calls. Its methods must not block for long: the async client calls them on its event loop.

    An observer that must wait before a call has ``async def abefore(call)`` beside ``before``; the async client awaits
    it in place of ``before``. If it is cancelled there, it must undo its work, because no ``after`` follows.

    >>> class Printer:
    ...     def before(self, call): ...
    ...     def after(self, outcome):
    ...         print(outcome.model, outcome.status, outcome.usage.cost)
    >>> with Lunar(observers=[Printer()]) as client:
    ...     answer = client.completions.create(model="gpt-4o", prompt="Count to 5")
    gpt-4o ok 0.0000575
    """

    def before(self, call: CallStart, /) -> None:
        """Called before a call. Raise a LunarError to refuse it: the caller gets the error, and nothing is sent."""

    def after(self, outcome: Outcome, /) -> None:
        """Called once for each call that ``before`` let through. Its errors are only logged: the answer was paid for.

        For a dropped stream it is called in a thread of its own: the garbage collector may find the stream inside code
        that holds a lock which this method needs.
        """


def find_abefore(observer: Observer) -> Callable[[CallStart], Awaitable[None]] | None:
    """The observer's own ``async def abefore``, if it has one."""
    abefore = getattr(observer, "abefore", None)
    return abefore if inspect.iscoroutinefunction(abefore) else None


def checked_observers(value: object) -> tuple[Observer, ...]:
    """``value``, if it is a list of observers. Raises ConfigurationError, also for a single observer outside a list."""
    if isinstance(value, (list, tuple)) and all(map(_observes, value)):
        return tuple(value)
    raise ConfigurationError(
        "observers: expected a list of objects with before() and after(), such as [Ledger()]"
    )


def _observes(value: object) -> bool:
    methods = (getattr(value, name, None) for name in ("before", "after"))
    return not isinstance(value, type) and all(map(callable, methods))
