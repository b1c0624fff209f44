"""Handlers that add up what LlamaIndex's calls cost: thin views on a ``lunar_core.Ledger``.

They only record. A call is refused in the client (``lunar_core.Observer``), because LlamaIndex swallows what its event
handlers raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler

from llama_index_lunar import query_streams
from llama_index_lunar.attribution import LEDGERS
from llama_index_lunar.usage_event import LunarUsageEvent
from lunar_core import observers
from lunar_core.checks import checked_tags
from lunar_core.cost.entries import Entry, entry_from_metadata
from lunar_core.cost.ledger import Ledger, checked_ledger
from lunar_core.cost.totals import Totals
from lunar_core.cost.view import CostView


class _AgentCosts(CostView):
    """The totals of a ledger, also by agent."""

    @property
    def by_agent(self) -> dict[str | None, Totals]:
        """Totals by the agent whose step made the call; None for calls outside of agents."""
        return self.ledger.by(_agent_of)


def _agent_of(entry: Entry) -> str | None:
    agent = entry.labels.get("agent")
    return agent if isinstance(agent, str) else None


class LunarCostHandler(_AgentCosts, BaseEventHandler):
    """An event handler that adds up what all LunarLLMs cost, wherever they are called.

    Each call counts once, with its retries and fallbacks, also in structured output and in streams that were left
    early. ``ledger``: one to share with others; default a new one.

    While it is open, the calls of a query engine's stream are attributed to the place of the query. ``close()`` ends
    that; the totals stay.

    >>> costs = LunarCostHandler()
    >>> get_dispatcher().add_event_handler(costs)
    >>> answer = query_engine.query("Which moons has Mars?")
    >>> costs.total_cost
    Decimal('0.000045')
    >>> costs.close()
    """

    ledger: Ledger = Field(
        default_factory=Ledger, description="Where the calls are added up; one may be shared."
    )
    _is_open: bool = PrivateAttr(default=False)

    def model_post_init(self, context: Any, /) -> None:
        """Attribute the calls of query engines' streams to the place of the query."""
        super().model_post_init(context)
        self._is_open = True
        query_streams.IN_USE.add()

    def close(self) -> None:
        """Stop recording, and remove this handler from LlamaIndex's dispatcher."""
        if self._is_open:
            self._is_open = False
            query_streams.IN_USE.remove()
            handlers = get_dispatcher().event_handlers
            handlers[:] = [handler for handler in handlers if handler is not self]

    @classmethod
    def class_name(cls) -> str:
        """The handler's name."""
        return "LunarCostHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Record the call that the event reports."""
        if isinstance(event, LunarUsageEvent):
            self.ledger.add(event.entry)


class LunarCostCallback(_AgentCosts, BaseCallbackHandler):
    """The same for a CallbackManager: adds up what the LunarLLMs cost that have this manager.

    >>> costs = LunarCostCallback()
    >>> llm = LunarLLM(model="gpt-4o", callback_manager=CallbackManager([costs]))
    >>> answer = llm.complete("Say hello")
    >>> costs.total_cost
    Decimal('0.000045')
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        event_starts_to_ignore: Sequence[CBEventType] = (),
        event_ends_to_ignore: Sequence[CBEventType] = (),
    ) -> None:
        super().__init__(list(event_starts_to_ignore), list(event_ends_to_ignore))
        self.ledger = Ledger() if ledger is None else checked_ledger(ledger)

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        """Do nothing: a call that starts has no cost yet."""
        return event_id

    def on_event_end(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **kwargs: Any,
    ) -> None:
        """Record an answer that another class reports. A LunarLLM has recorded its own by now."""
        if event_type != CBEventType.LLM or not payload:
            return
        response = payload.get(EventPayload.RESPONSE) or payload.get(EventPayload.COMPLETION)
        metadata = getattr(response, "additional_kwargs", None)
        if isinstance(metadata, Mapping) and metadata.keys() & {"call_id", "total_cost_usd"}:
            tags = observers.current_tags()
            self.ledger.add(entry_from_metadata(metadata, call_id=event_id, tags=tags))

    def start_trace(self, trace_id: str | None = None) -> None:
        """Do nothing: costs do not depend on traces."""

    def end_trace(
        self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None
    ) -> None:
        """Do nothing: costs do not depend on traces."""


class LunarCosts(_AgentCosts):
    """The totals that ``lunar_cost()`` yields."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger


@contextmanager
def lunar_cost(
    tags: Mapping[str, object] | None = None, *, ledger: Ledger | None = None
) -> Iterator[LunarCosts]:
    """Add up what the calls made in this block cost, under ``tags``.

    Only calls of this block count, whatever runs beside it. A stream that is read after the block still counts, a query
    engine's too. Blocks nest: the calls of an inner block count in the outer ones, and its tags override theirs. Tasks,
    agents and query engines that start inside carry the block along. (``lunar_core.tags`` alone does not reach a query
    engine's stream that is read after its block: such a stream makes its call when it is read.)

    >>> with lunar_cost(tags={"tenant": "acme"}) as costs:
    ...     answer = query_engine.query("Which moons has Mars?")
    >>> costs.total_cost, costs.by_tag("tenant")["acme"].calls
    (Decimal('0.000045'), 1)
    """
    costs = LunarCosts(Ledger() if ledger is None else checked_ledger(ledger))
    checked_tags(tags)
    named = dict(tags or {})
    token = LEDGERS.set((*LEDGERS.get(), costs.ledger))
    query_streams.IN_USE.add()
    try:
        # As LlamaIndex's own tags too, so that all its events carry them.
        with (
            observers.tags(**{name: str(value) for name, value in named.items()}),
            instrument_tags({**active_instrument_tags.get(), **named}),
        ):
            yield costs
    finally:
        query_streams.IN_USE.remove()
        LEDGERS.reset(token)
