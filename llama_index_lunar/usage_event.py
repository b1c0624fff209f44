"""The event that LlamaIndex's handlers get for each call that may be billed."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index_instrumentation.base import BaseEvent

from llama_index_lunar.compat import FIELD_DESCRIPTIONS
from lunar_core import bridge
from lunar_core.cost.entries import Entry, entry_from_metadata
from lunar_core.observers import Status
from lunar_core.types.attempt import Attempt


class LunarUsageEvent(BaseEvent):
    """The usage and cost of one call. Sent once for each call, also for streams that were left early and for decisions.

    ``tags``: those at the moment of the call (``instrument_tags`` and ``lunar_core.tags``), even if a stream is read
    elsewhere. ``span_id``: the LLM's own span.

    >>> class Printer(BaseEventHandler):
    ...     def handle(self, event, **kwargs):
    ...         if isinstance(event, LunarUsageEvent):
    ...             print(event.model, event.total_cost_usd, event.tags)
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    call_id: str
    """The call, as in ``additional_kwargs["call_id"]`` of its answer."""
    endpoint: str
    """``chat.completions``, ``completions``, ``router`` or ``router.decide``."""
    model: str
    """The model that answered; if none did, the requested one."""
    requested_model: str = ""
    """The requested model, which may be ``router``."""
    provider: str | None = None
    """The provider that served the model; None if unknown."""
    agent: str | None = None
    """The agent whose step made the call."""
    status: Status = "ok"
    """``ok``, ``failed`` or ``aborted``."""
    partial: bool = False
    """Whether the answer is incomplete."""
    streamed: bool = False
    """Whether it was a stream."""
    usage: dict[str, Any] | None = None
    """Tokens, USD and ms, as the service stated them; None if it stated none."""
    routing: dict[str, Any] | None = None
    """The router's decision and its reasons; None without one."""
    attempts: list[dict[str, Any]] = Field(default_factory=list)
    """Every request of the call, in order."""
    latency_ms: float | None = None
    """From the call to its answer, in ms."""
    ttft_ms: float | None = None
    """From the call to the first content of its stream, in ms."""
    error: str | None = None
    """The error's message, if the call failed; never with a key."""

    @property
    def total_cost_usd(self) -> float | None:
        """USD billed, as the service stated it; None if it stated none."""
        return (self.usage or {}).get("total_cost_usd")

    @classmethod
    def class_name(cls) -> str:
        """The event's name, as handlers and stores know it."""
        return "LunarUsageEvent"

    @property
    def entry(self) -> Entry:
        """The call as an entry of a ledger."""
        usage = self.usage or {}
        facts = {"model": self.model, "provider": self.provider, "routing": self.routing}
        times = {"latency_ms": self.latency_ms, "ttft_ms": self.ttft_ms}
        return entry_from_metadata(
            {**usage, **facts, **times},
            call_id=self.call_id,
            endpoint=self.endpoint,
            requested_model=self.requested_model,
            status=self.status,
            tags={str(name): str(value) for name, value in self.tags.items()},
            labels=entry_labels(self.span_id, self.agent),
            attempts=tuple(Attempt(**attempt) for attempt in self.attempts),
            streamed=self.streamed,
        )


def entry_labels(span_id: str | None, agent: str | None) -> dict[str, object]:
    """LlamaIndex's facts about a call as labels of an entry; absent if unknown."""
    labels = {"span_id": span_id, "agent": agent}
    return {name: value for name, value in labels.items() if value is not None}


bridge.describe_fields(LunarUsageEvent, FIELD_DESCRIPTIONS)
