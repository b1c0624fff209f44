"""Who watches the calls: each observer may refuse a call before it is made and is told once of its outcome.

Observers are a client's own, or those of the block that is running (``observing``). This is where
cost ledgers, budgets and tracing attach, because both frameworks swallow what their own callback
handlers raise.
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
    """The tags of the block that is running, as a dict of its own.

    >>> with tags(user="u1"):
    ...     current_tags()
    {'user': 'u1'}
    """
    return dict(_TAGS.get())


def observing(*observers: Observer) -> AbstractContextManager[None]:
    """Add observers to every call that is begun in this block, by any client, of either framework too.

    They come after the client's own; an object that is in both is told once. Blocks nest; asyncio tasks started
    inside carry them along, and so do LangChain's threads. Raises ConfigurationError for what is no observer.

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
    """A client's ``own`` observers and then those of the running blocks, each object once."""
    current = _OBSERVERS.get()
    if not current:
        return tuple(own)
    return tuple({id(observer): observer for observer in (*own, *current)}.values())


@contextmanager
def within_span(find: Callable[[], object | None]) -> Iterator[None]:
    """Say how to find the span that a tracer keeps for each call begun in this block: OpenTelemetry's, or None.

    The frameworks' layers say so, because their tracers make it neither current nor known as an LLM's from the start.
    """
    token = _FIND_SPAN.set(find)
    try:
        yield
    finally:
        _FIND_SPAN.reset(token)


def find_callers_span() -> object | None:
    """What ``within_span`` says here."""
    find = _FIND_SPAN.get()
    return None if find is None else find()


@dataclass(frozen=True)
class CallStart:
    """A call about to be made. ``params`` is what would be sent: read it, don't change it.

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
    """Every model that may answer: the named one and its fallbacks, or the router's candidates; () if not known."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended: told once for each ``call.call_id``.

    ``status`` is "aborted" when the caller closed a stream before its end or stopped waiting, and "refused" when
    another observer refused the call, or it was cancelled while one was asked: nothing was sent then. ``usage`` is
    None when the service never stated it: then what the call cost is unknown, not zero.

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
    """The model that answered; the one that was asked where none did."""
    provider: str | None = None
    usage: Usage | None = None
    routing: RoutingDecision | None = None
    error: BaseException | None = None
    """A LunarError; of a refused call, whatever refused it."""
    streamed: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict, repr=False)
    """As in CallStart."""
    candidates: tuple[str, ...] = ()
    """The models among which the router was to choose; () where it was not told, or not asked."""
    cost_weight: float | None = None
    """What the router was told of it."""
    from_finalizer: bool = False
    """Whether it is of a stream that was dropped, told of in a thread of its own."""
    read_answer: Callable[[], ChatCompletion | Completion | None] | None = field(
        default=None, repr=False, compare=False
    )
    """Makes what ``answer()`` returns."""

    def answer(self) -> ChatCompletion | Completion | None:
        """What came of the answer, whole or not; None if nothing came. Put together at each look."""
        return None if self.read_answer is None else self.read_answer()


class Observer(Protocol):
    """Methods must not block for long: the async client calls them on its event loop.

    One that has to wait before a call has ``async def abefore(call)`` beside ``before``: the async client awaits it
    in place of ``before``. If it is cancelled there, it must undo what it did: it is not told of that call.

    >>> class Printer:
    ...     def before(self, call): ...
    ...     def after(self, outcome):
    ...         print(outcome.model, outcome.status, outcome.usage.cost)
    >>> with Lunar(observers=[Printer()]) as client:
    ...     answer = client.completions.create(model="gpt-4o", prompt="Count to 5")
    gpt-4o ok 0.0000575
    """

    def before(self, call: CallStart, /) -> None:
        """Raise a LunarError (say, BudgetExceededError) to refuse the call: it reaches the caller, nothing is sent."""

    def after(self, outcome: Outcome, /) -> None:
        """Told once per call that ``before`` let through. What it raises is logged: the answer was paid for.

        A stream that was dropped is told of in a thread of its own: the garbage collector finds it, perhaps inside
        code that holds a lock which is wanted here.
        """


def find_abefore(observer: Observer) -> Callable[[CallStart], Awaitable[None]] | None:
    """The observer's own ``async def abefore``, if it has one."""
    abefore = getattr(observer, "abefore", None)
    return abefore if inspect.iscoroutinefunction(abefore) else None


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
