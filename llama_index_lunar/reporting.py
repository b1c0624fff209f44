"""From the client's observers to LlamaIndex: an event for each call that may be billed, with its tags."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span import active_span_id

from llama_index_lunar import late, tracing
from llama_index_lunar.late import LEDGERS
from lunar_core import bridge
from lunar_core.cost.ledger import Entry, Ledger
from lunar_core.observers import CallStart, Outcome, Status, current_tags, tags
from lunar_core.types.attempt import Attempt
from lunar_core.types.usage import exact_usd

dispatcher = get_dispatcher(__name__)


class LunarUsageEvent(BaseEvent):
    """What one call used and cost: emitted once for each, also for streams that were left early and for decisions.

    ``tags`` are those of the moment the call was made (``instrument_tags`` and ``lunar_core.tags``), even if a
    stream is read elsewhere; ``span_id`` is that of the LLM's own span. ``usage`` and ``routing`` are what the service
    said, None where it said nothing; costs are USD. ``partial``: the answer did not arrive whole.

    >>> class Printer(BaseEventHandler):
    ...     def handle(self, event, **kwargs):
    ...         if isinstance(event, LunarUsageEvent):
    ...             print(event.model, event.total_cost_usd, event.tags)
    """

    call_id: str
    endpoint: str
    """``chat.completions``, ``completions``, ``router`` or ``router.decide``."""
    model: str
    """The model that answered; the one that was asked where none did."""
    requested_model: str = ""
    provider: str | None = None
    agent: str | None = None
    """The agent whose step made the call."""
    status: Status = "ok"
    """``ok``, ``failed`` or ``aborted``."""
    partial: bool = False
    streamed: bool = False
    usage: dict[str, Any] | None = None
    routing: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = Field(default_factory=list)
    latency_ms: float | None = None
    ttft_ms: float | None = None
    error: str | None = None

    @property
    def total_cost_usd(self) -> float | None:
        """What the service billed, in USD; None if it did not say."""
        return (self.usage or {}).get("total_cost_usd")

    @classmethod
    def class_name(cls) -> str:
        """The event's name, as handlers and stores know it."""
        return "LunarUsageEvent"

    @property
    def entry(self) -> Entry:
        """The same as an entry of a ledger."""
        usage = self.usage or {}
        prompt = usage.get("prompt_tokens") or 0
        completion = usage.get("completion_tokens") or 0
        return Entry(
            call_id=self.call_id,
            model=self.model,
            endpoint=self.endpoint,
            requested_model=self.requested_model,
            provider=self.provider,
            status=self.status,
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=usage.get("total_tokens") or prompt + completion,
            cost=exact_usd(self.total_cost_usd),
            tags={str(name): str(value) for name, value in self.tags.items()},
            labels=_labels(self.span_id, self.agent),
            attempts=tuple(Attempt(**attempt) for attempt in self.attempts),
            latency_ms=self.latency_ms,
            ttft_ms=self.ttft_ms,
        )


@contextmanager
def attributed(callbacks: CallbackManager | None) -> Iterator[None]:
    """Around the making of a call: LlamaIndex's tags count as ours, and the manager's cost handlers hear of it.

    Where both name the same tag, ``lunar_core.tags`` wins: it says on purpose what costs are to be booked on.
    """
    own = current_tags()
    theirs = {str(name): value for name, value in active_instrument_tags.get().items()}
    handlers = getattr(callbacks, "handlers", None) or ()
    heard = tuple(h.ledger for h in handlers if isinstance(h, KeepsLedger))
    token = LEDGERS.set((*LEDGERS.get(), *heard))
    try:
        names = theirs.keys() - own.keys()
        # Workflows stamp the beginning of each step's input on it, which is no business of a ledger.
        with tags(**{n: theirs[n] for n in names if not n.startswith("llamaindex.step.")}):
            yield
    finally:
        LEDGERS.reset(token)


class KeepsLedger:
    """A handler of the CallbackManager that is told of each call directly, streams that were left early included."""

    ledger: Ledger


@dataclass(frozen=True)
class _Moment:
    """What was true where a call was made; where it ends, it may no longer be."""

    tags: Mapping[str, Any]
    span_id: str | None
    span: Any
    agent: str | None
    ledgers: Sequence[Ledger]


class Reporter:
    """An observer of the client: takes down each call's moment, and tells LlamaIndex how the call ended."""

    def __init__(self) -> None:
        self._moments: dict[str, _Moment] = {}
        late.install()
        tracing.install()

    def __reduce__(self) -> tuple[type[Reporter], tuple[()]]:
        return Reporter, ()  # the calls that are under way are not a copy's

    def before(self, call: CallStart, /) -> None:
        theirs = active_instrument_tags.get()
        self._moments[call.call_id] = _Moment(
            # The client knows all tags, but as strings: LlamaIndex's own stay what they are.
            {**theirs, **{k: v for k, v in call.tags.items() if v != str(theirs.get(k))}},
            active_span_id.get(),
            tracing.current_span(),
            _agent(),
            LEDGERS.get(),
        )

    def after(self, outcome: Outcome, /) -> None:
        moment = self._moment(outcome)
        if moment.span is not None and outcome.endpoint != "router.decide":
            tracing.describe(moment.span, outcome)
        if not _may_be_billed(outcome):
            return
        if moment.ledgers:
            entry = replace(Entry.of(outcome), labels=_labels(moment.span_id, moment.agent))
            for ledger in moment.ledgers:
                ledger.add(entry)
        if _somebody_listens():
            # The dispatcher would stamp the tags of *this* moment on it.
            with instrument_tags(dict(moment.tags)):
                dispatcher.event(_event(outcome, moment))

    def _moment(self, outcome: Outcome) -> _Moment:
        """The decision of a decide-then-call is reported before the call, under a name made of the call's."""
        call_id = outcome.call.call_id
        if call_id in self._moments:
            return self._moments.pop(call_id)
        whole = self._moments.get(call_id.removesuffix(".route"))
        return whole or _Moment(outcome.tags, None, None, None, ())


def _agent() -> str | None:
    """The agent whose step is running here. Workflows tell it nowhere in public; without it, costs are by run alone."""
    results = sys.modules.get("workflows.runtime.types.results")
    step = getattr(results, "StepWorkerStateContextVar", None)
    worker = step.get(None) if isinstance(step, ContextVar) else None
    name = getattr(getattr(worker, "event", None), "current_agent_name", None)
    return name if isinstance(name, str) else None


def _labels(span_id: str | None, agent: str | None) -> dict[str, object]:
    found = {"span_id": span_id, "agent": agent}
    return {name: value for name, value in found.items() if value is not None}


def _somebody_listens() -> bool:
    """Whether an event would reach anybody. Without, it need not be made."""
    place = dispatcher
    while all(isinstance(handler, NullEventHandler) for handler in place.event_handlers):
        if not place.propagate:
            return False
        place = place.parent
    return True


def _may_be_billed(outcome: Outcome) -> bool:
    """Whether money may have been spent: not on a call that the service, or another observer, refused."""
    return (
        outcome.status not in ("failed", "refused")
        or outcome.usage is not None
        or any(attempt.may_be_billed for attempt in outcome.call.attempts)
    )


def _event(outcome: Outcome, moment: _Moment) -> LunarUsageEvent:
    usage = outcome.usage
    return LunarUsageEvent(
        span_id=moment.span_id,
        tags=dict(moment.tags),
        call_id=outcome.call.call_id,
        endpoint=outcome.endpoint,
        model=outcome.model,
        requested_model=outcome.call.requested_model,
        provider=outcome.provider,
        agent=moment.agent,
        status=outcome.status,
        partial=outcome.status != "ok",
        streamed=outcome.streamed,
        usage=None if usage is None else usage.model_dump(mode="json", exclude_none=True),
        routing=bridge.routing_dict(outcome.routing),
        attempts=[vars(attempt) for attempt in outcome.call.attempts],
        latency_ms=outcome.call.latency_ms,
        ttft_ms=outcome.call.ttft_ms,
        error=None if outcome.error is None else str(outcome.error),
    )
