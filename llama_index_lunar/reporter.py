"""Sends LlamaIndex an event for each call that may be billed, with its tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span import active_span_id

from llama_index_lunar import compat, tracing
from llama_index_lunar.attribution import LEDGERS
from llama_index_lunar.usage_event import LunarUsageEvent, entry_labels
from lunar_core import bridge
from lunar_core.cost.ledger import Entry, Ledger
from lunar_core.observers import CallStart, Outcome

dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True)
class _Moment:
    """The context in which a call is made, which may have changed when the call ends."""

    tags: Mapping[str, Any]
    span_id: str | None
    span: tracing.CallSpan | None
    agent: str | None
    ledgers: Sequence[Ledger]


class Reporter:
    """An observer of the client: keeps where each call is made, and reports to LlamaIndex how it ended."""

    def __init__(self) -> None:
        self._moments: dict[str, _Moment] = {}

    def __reduce__(self) -> tuple[type[Reporter], tuple[()]]:
        return Reporter, ()  # without the calls under way, which are the original's

    def before(self, call: CallStart, /) -> None:
        theirs = active_instrument_tags.get()
        self._moments[call.call_id] = _Moment(
            # The client has all tags as strings; LlamaIndex's own keep their types.
            {**theirs, **{k: v for k, v in call.tags.items() if v != str(theirs.get(k))}},
            active_span_id.get(),
            tracing.current_span(),
            compat.current_agent(),
            LEDGERS.get(),
        )

    def after(self, outcome: Outcome, /) -> None:
        moment = self._moment(outcome)
        if moment.span is not None and outcome.endpoint != "router.decide":
            moment.span.describe(outcome)
        if not _may_be_billed(outcome):
            return
        if moment.ledgers:
            entry = replace(Entry.of(outcome), labels=entry_labels(moment.span_id, moment.agent))
            for ledger in moment.ledgers:
                ledger.add(entry)
        if _has_listeners():
            # The dispatcher would put the tags of *this* moment on the event.
            with (
                instrument_tags(dict(moment.tags)),
                compat.without_openinference_warning(LunarUsageEvent),
            ):
                dispatcher.event(_event(outcome, moment))

    def _moment(self, outcome: Outcome) -> _Moment:
        """The context of a call. The decision of decide-then-call is reported first, with an id made of the call's."""
        call_id = outcome.call.call_id
        if call_id in self._moments:
            return self._moments.pop(call_id)
        whole = self._moments.get(call_id.removesuffix(".route"))
        return whole or _Moment(outcome.tags, None, None, None, ())


def _has_listeners() -> bool:
    """Whether any handler would get an event. If not, none needs to be made."""
    place = dispatcher
    while all(isinstance(handler, NullEventHandler) for handler in place.event_handlers):
        if not place.propagate:
            return False
        place = place.parent
    return True


def _may_be_billed(outcome: Outcome) -> bool:
    """Whether money may have been spent. Not on a call that the service, or another observer, refused."""
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
