"""Cost and route on the span that a tracer keeps for an LLM call: OpenInference (Phoenix, Langfuse, …) or any other.

Nothing is imported unless somebody traces: a process without OpenTelemetry never loads it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from llama_index_instrumentation.span import active_span_id

from llama_index_lunar import compat
from lunar_core import bridge
from lunar_core.observers import Outcome


@dataclass(frozen=True)
class CallSpan:
    """The span that a tracer keeps for one call. ``openinference``: what OpenInference writes on it at its end."""

    span: Any
    openinference: Any = None

    def describe(self, outcome: Outcome) -> None:
        """Write what the call cost and how it was routed, in OpenInference's words; costs in USD."""
        if not self.span.is_recording():
            return
        self.span.set_attributes({**_attributes(outcome), "metadata": self._metadata(outcome)})
        if self.openinference is not None and outcome.model:
            self.openinference["llm.model_name"] = outcome.model

    def _metadata(self, outcome: Outcome) -> str:
        """JSON of the call's facts, beside what the caller has put there."""
        facts: dict[str, object] = {
            "call_id": outcome.call.call_id,
            "model": outcome.model,
            "requested_model": outcome.call.requested_model,
            "provider": outcome.provider,
            "routing": bridge.routing_dict(outcome.routing),
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        return json.dumps({**_metadata(self.span), **facts})


def current_span() -> CallSpan | None:
    """The span that a tracer opened for the LLM call that is being made here, or None.

    A span of the caller's own, a web request's say, is not it: many calls may share that one.
    """
    span_id, trace = active_span_id.get(), sys.modules.get("opentelemetry.trace")
    if trace is None or span_id is None:
        return None
    # Rather OpenInference's own: the one it makes current may be none, or a stand-in that a stream outlives.
    openinference = compat.find_openinference_span(span_id)
    span = compat.otel_span_of(openinference) if openinference else trace.get_current_span()
    # Tracers name their spans after the framework's: "LunarLLM.chat" for "LunarLLM.chat-<uuid>".
    is_of_call = str(getattr(span, "name", "")).startswith(span_id.partition("-")[0])
    return CallSpan(span, openinference) if is_of_call and span.is_recording() else None


def _attributes(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    attributes = {
        "llm.model_name": outcome.model or None,
        "gen_ai.response.model": outcome.model or None,
        "llm.cost.total": usage and usage.total_cost_usd,
        "llm.cost.prompt": usage and usage.input_cost_usd,
        "llm.cost.completion": usage and usage.output_cost_usd,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _metadata(span: Any) -> dict[str, object]:
    """What the caller has put there: it stays."""
    try:
        metadata = json.loads(span.attributes["metadata"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
