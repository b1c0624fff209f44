"""Puts cost and route on the span that a tracer keeps for an LLM call.

OpenInference (Phoenix, Langfuse), mlflow, and others by OpenTelemetry. Nothing is imported unless a tracer runs: a
process without OpenTelemetry never loads it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index_instrumentation.span import active_span_id

from llama_index_lunar import compat
from lunar_core import bridge
from lunar_core.observers import Outcome


class CallSpan(Protocol):
    """The span that a tracer keeps for one call."""

    def describe(self, outcome: Outcome) -> None:
        """Write the call's cost (USD) and route in the tracer's terms."""


@dataclass(frozen=True)
class OTelSpan:
    """A span of OpenTelemetry. ``openinference``: if it is OpenInference's, the object that writes it at its end."""

    span: Any
    openinference: Any = None

    def describe(self, outcome: Outcome) -> None:
        """Write them in OpenInference's terms, and the model in OpenTelemetry's too."""
        if not self.span.is_recording():
            return
        metadata = json.dumps({**_metadata(self.span), **_facts(outcome)})
        self.span.set_attributes({**_attributes(outcome), "metadata": metadata})
        if self.openinference is not None and outcome.model:
            self.openinference["llm.model_name"] = outcome.model


@dataclass(frozen=True)
class MlflowSpan:
    """A span of mlflow, which writes its attributes as JSON."""

    span: Any

    def describe(self, outcome: Outcome) -> None:
        """Write them in mlflow's terms. Mlflow's own prices do not know the route."""
        usage = outcome.usage
        costs = {
            "input_cost": usage and usage.input_cost_usd,
            "output_cost": usage and usage.output_cost_usd,
            "total_cost": usage and usage.total_cost_usd,
        }
        costs = {name: cost for name, cost in costs.items() if cost is not None}
        attributes: dict[str, object] = {
            "mlflow.llm.model": outcome.model or None,
            "model_name": outcome.model or None,
            "mlflow.llm.provider": outcome.provider,
            "mlflow.llm.cost": costs if "total_cost" in costs else None,
            "lunar": _facts(outcome),
        }
        for name, value in attributes.items():
            if value is not None:
                self.span.set_attribute(name, value)


def current_span() -> CallSpan | None:
    """The span that a tracer opened for the LLM call that is being made here, or None.

    A span of the caller's own (of a web request, say) does not count: many calls may share it.
    """
    span_id, trace = active_span_id.get(), sys.modules.get("opentelemetry.trace")
    if trace is None or span_id is None:
        return None
    mlflow = compat.find_mlflow_span(span_id)
    if mlflow is not None:
        return MlflowSpan(mlflow)
    # OpenInference's own span first: the current one may be missing, or a stand-in that ends before the stream.
    openinference = compat.find_openinference_span(span_id)
    span = compat.otel_span_of(openinference) if openinference else trace.get_current_span()
    # Tracers name their spans after the framework's: "LunarLLM.chat" for "LunarLLM.chat-<uuid>".
    is_of_call = str(getattr(span, "name", "")).startswith(span_id.partition("-")[0])
    return OTelSpan(span, openinference) if is_of_call and span.is_recording() else None


def current_otel_span() -> object | None:
    """The same if it is OpenTelemetry's, for observers that write on such spans."""
    span = current_span()
    return span.span if isinstance(span, OTelSpan) else None


def _facts(outcome: Outcome) -> dict[str, object]:
    facts: dict[str, object] = {
        "call_id": outcome.call.call_id,
        "model": outcome.model,
        "requested_model": outcome.call.requested_model,
        "provider": outcome.provider,
        "routing": bridge.routing_dict(outcome.routing),
    }
    return {name: value for name, value in facts.items() if value is not None}


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
    """The metadata that the caller has put on the span, to be kept."""
    try:
        metadata = json.loads(span.attributes["metadata"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
