"""Puts the model that answered and its cost on the span that a tracer keeps for the run, in the tracer's own terms.

LangChain's end-of-run callback has no place for a cost, and for a stream none for the model. So each tracer is updated
here, just before the end. No tracer is imported: it is recognised by the module of its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    BaseCallbackHandler,
    BaseRunManager,
    CallbackManager,
    Callbacks,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from langchain_lunar import compat
from lunar_core.observers import within_span

Describe = Callable[[Any, UUID, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A model's run, and the handlers that listen to it."""

    run_id: UUID
    handlers: Sequence[BaseCallbackHandler]

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Pass the answer's ``response_metadata`` (costs in USD) to every tracer."""
        for handler in self.handlers:
            describe = _describe_function(type(handler).__module__)
            if describe is not None:
                # Another version may differ: an answer that was paid for must not be lost for that.
                with suppress(Exception):
                    describe(handler, self.run_id, metadata)

    def find_span(self) -> object | None:
        """The OpenTelemetry span that a tracer keeps for this run, or None."""
        for handler in self.handlers:
            module = type(handler).__module__
            for prefix, find in _SPANS.items():
                if module.startswith(prefix):
                    with suppress(Exception):  # as above; or it does not know the run
                        return find(handler, self.run_id)
        return None


def describe_run(run_manager: BaseRunManager | None, metadata: Mapping[str, Any]) -> None:
    """Pass the answer's metadata to the tracers of a run."""
    if run_manager is not None:
        Run(run_manager.run_id, run_manager.handlers).describe(metadata)


def within_run(run_manager: BaseRunManager | None) -> AbstractContextManager[None]:
    """A context for the call of a run: observers of the client can find the span that a tracer keeps for it."""
    if run_manager is None:  # a stream has none: ``stream`` opens the context
        return nullcontext()
    return within_span(Run(run_manager.run_id, run_manager.handlers).find_span)


def name_run(config: RunnableConfig | None, own_callbacks: Callbacks) -> tuple[RunnableConfig, Run]:
    """``config`` with an id for the run to come, and that run with its handlers.

    LangChain gives a model that streams no run manager. ``own_callbacks``: those of the model itself.
    """
    config = ensure_config(config)
    run_id = config.get("run_id") or uuid4()
    handlers = CallbackManager.configure(config.get("callbacks"), own_callbacks).handlers
    return {**config, "run_id": run_id}, Run(run_id, handlers)


def _describe_function(module: str) -> Describe | None:
    return next((f for prefix, f in _TRACERS.items() if module.startswith(prefix)), None)


def _costs(metadata: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """The stated costs under a tracer's names for ``total``, ``input`` and ``output``."""
    stated = {name: metadata.get(f"{part}_cost_usd") for part, name in names.items()}
    return {name: cost for name, cost in stated.items() if cost is not None}


def _describe_openinference(handler: Any, run_id: UUID, metadata: Mapping[str, Any]) -> None:
    names = {
        "total": "llm.cost.total",
        "input": "llm.cost.prompt",
        "output": "llm.cost.completion",
    }
    compat.find_openinference_span(handler, run_id).set_attributes(_costs(metadata, names))


def _describe_openllmetry(handler: Any, run_id: UUID, metadata: Mapping[str, Any]) -> None:
    attributes: dict[str, Any] = {"gen_ai.response.model": metadata["model_name"]}
    attributes |= _costs(metadata, {"total": "gen_ai.usage.cost"})
    compat.find_openllmetry_span(handler, run_id).set_attributes(attributes)


def _describe_langfuse(handler: Any, run_id: UUID, metadata: Mapping[str, Any]) -> None:
    costs = _costs(metadata, {"total": "total", "input": "input", "output": "output"})
    compat.find_langfuse_generation(handler, run_id).update(
        model=metadata["model_name"], cost_details=costs or None
    )


def _describe_mlflow(handler: Any, run_id: UUID, metadata: Mapping[str, Any]) -> None:
    span = compat.find_mlflow_span(handler, run_id)
    span.set_attribute("mlflow.llm.model", metadata["model_name"])
    costs = _costs(
        metadata, {"total": "total_cost", "input": "input_cost", "output": "output_cost"}
    )
    if costs:
        span.set_attribute("mlflow.llm.cost", costs)


_TRACERS: dict[str, Describe] = {
    "langfuse.": _describe_langfuse,
    "mlflow.": _describe_mlflow,
    "openinference.": _describe_openinference,
    "opentelemetry.instrumentation.langchain": _describe_openllmetry,
}
_SPANS: dict[str, Callable[[Any, UUID], object]] = {
    "openinference.": compat.find_openinference_span,
    "opentelemetry.instrumentation.langchain": compat.find_openllmetry_span,
}
"""By the module of a tracer's handler. LangSmith reads what LangChain itself reports."""
