"""Cost and route on the span that a tracer keeps for an LLM call: OpenInference (Phoenix, Langfuse, …) or any other.

Nothing is imported unless somebody traces: a process without OpenTelemetry never loads it.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import active_span_id

from lunar_core import bridge
from lunar_core.observers import Outcome


def install() -> None:
    """OpenInference warns of each event that it doesn't know: ours has told it all by other means."""
    logging.getLogger("openinference.instrumentation.llama_index._handler").addFilter(
        _is_not_of_usage
    )


def _is_not_of_usage(record: logging.LogRecord) -> bool:
    return not record.getMessage().endswith("LunarUsageEvent")


def current_span() -> Any:
    """The span that a tracer opened for the LLM call that is being made here, or None.

    A span of the caller's own, a web request's say, is not it: many calls may share that one.
    """
    call, trace = active_span_id.get(), sys.modules.get("opentelemetry.trace")
    if trace is None or call is None:
        return None
    span = _opened_for(call) or trace.get_current_span()
    # Tracers name their spans after the framework's: "LunarLLM.chat" for "LunarLLM.chat-<uuid>".
    is_of_call = str(getattr(span, "name", "")).startswith(call.partition("-")[0])
    return span if is_of_call and span.is_recording() else None


def _opened_for(call: str) -> Any:
    """OpenInference's own span: the one it makes current may be none, or a stand-in that a stream outlives."""
    for handler in get_dispatcher().span_handlers:
        span = getattr(handler.open_spans.get(call), "_otel_span", None)
        if span is not None:
            return span
    return None


def describe(span: Any, outcome: Outcome) -> None:
    """Write what the call cost and how it was routed on the span, in OpenInference's words; costs in USD."""
    if not span.is_recording():
        return
    usage = outcome.usage
    facts: dict[str, object] = {
        "call_id": outcome.call.call_id,
        "model": outcome.model,
        "provider": outcome.provider,
        "routing": bridge.routing_dict(outcome.routing),
    }
    costs = {
        "llm.cost.total": usage and usage.total_cost_usd,
        "llm.cost.prompt": usage and usage.input_cost_usd,
        "llm.cost.completion": usage and usage.output_cost_usd,
    }
    metadata = {name: value for name, value in facts.items() if value is not None}
    span.set_attributes(
        {name: cost for name, cost in costs.items() if cost is not None}
        | {"metadata": json.dumps({**_metadata(span), **metadata})}
    )


def _metadata(span: Any) -> dict[str, object]:
    """What the caller has put there: it stays."""
    try:
        metadata = json.loads(span.attributes["metadata"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
