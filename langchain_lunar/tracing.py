"""The model that answered, and the bill, on the spans that tracers keep for a model's run: each in its own words.

What LangChain tells handlers at the end of a run has no place for a cost, and at the end of a stream none for the
model. So each tracer is told here, just before the end. Nothing of theirs is imported: its handler tells a tracer.
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
        """Tell every tracer what is known of the answer: ``response_metadata``, with costs in USD."""
        for handler in self.handlers:
            describe = _describe_function(type(handler).__module__)
            if describe is not None:
                # Of another version it may have changed: an answer that was paid for must not be lost for it.
                with suppress(Exception):
                    describe(handler, self.run_id, metadata)

    def find_span(self) -> object | None:
        """The span of OpenTelemetry that a tracer keeps for this run."""
        for handler in self.handlers:
            module = type(handler).__module__
            for prefix, find in _SPANS.items():
                if module.startswith(prefix):
                    with suppress(
                        Exception
                    ):  # as above; and it knows no run that it was not told of
                        return find(handler, self.run_id)
        return None


def describe_run(run_manager: BaseRunManager | None, metadata: Mapping[str, Any]) -> None:
    """Tell the tracers of a run of the answer that it got."""
    if run_manager is not None:
        Run(run_manager.run_id, run_manager.handlers).describe(metadata)


def within_run(run_manager: BaseRunManager | None) -> AbstractContextManager[None]:
    """A block whose calls are those of a run: observers of the client can find the span that a tracer keeps for it."""
    if run_manager is None:  # a stream has none; its block is around it
        return nullcontext()
    return within_span(Run(run_manager.run_id, run_manager.handlers).find_span)


def name_run(config: RunnableConfig | None, own_callbacks: Callbacks) -> tuple[RunnableConfig, Run]:
    """``config`` with an id for the run that is to come, and who will listen to it.

    LangChain tells a model that streams nothing of its run. ``own_callbacks``: those of the model itself.
    """
    config = ensure_config(config)
    run_id = config.get("run_id") or uuid4()
    handlers = CallbackManager.configure(config.get("callbacks"), own_callbacks).handlers
    return {**config, "run_id": run_id}, Run(run_id, handlers)


def _describe_function(module: str) -> Describe | None:
    return next((f for prefix, f in _TRACERS.items() if module.startswith(prefix)), None)


def _costs(metadata: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """The costs that were stated, under a tracer's names for ``total``, ``input`` and ``output``."""
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
"""By where a tracer's handler is defined. LangSmith reads what LangChain itself tells."""
