"""Every private name of LlamaIndex, OpenInference and mlflow that this package uses.

``tests/llama_index/test_compat.py`` has a test for each name, and runs with the lowest and the newest versions.
mlflow's is tested in ``tests/ecosystem``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

FIELD_DESCRIPTIONS = {
    "callback_manager": "Callback handlers of LlamaIndex's for the calls of this LLM.",
    "id_": "The event's own id.",
    "pydantic_program_mode": "How objects are requested: by the LLM's own fields (default), by a tool, by the prompt.",
    "span_id": "The LlamaIndex span of the call.",
    "tags": "The tags at the moment of the call.",
    "timestamp": "When the event was sent.",
}
"""Descriptions of LlamaIndex's own fields that its classes lack."""


def extend_messages(llm: LLM, messages: list[ChatMessage]) -> list[ChatMessage]:
    """``messages`` after the LLM's system prompt, as LlamaIndex's own programs send them."""
    return llm._extend_messages(messages)


def extend_prompt(llm: LLM, prompt: str) -> str:
    """``prompt`` with the LLM's system prompt and query wrapper, as LlamaIndex's own programs send it."""
    return llm._extend_prompt(prompt)


def current_agent() -> str | None:
    """The name of the agent whose step runs here; None outside of agents.

    Workflows have no public way to ask for it. Without this name, costs are by run only.
    """
    results = sys.modules.get("workflows.runtime.types.results")
    step = getattr(results, "StepWorkerStateContextVar", None)
    worker = step.get(None) if isinstance(step, ContextVar) else None
    name = getattr(getattr(worker, "event", None), "current_agent_name", None)
    return name if isinstance(name, str) else None


def find_openinference_span(span_id: str) -> Any:
    """OpenInference's object for an open span of LlamaIndex; None without it.

    It takes attributes by key, and writes them on the tracer's span at its end, over any that are there.
    """
    for handler in get_dispatcher().span_handlers:
        span = handler.open_spans.get(span_id)
        if hasattr(span, "_otel_span"):
            return span
    return None


def otel_span_of(openinference_span: Any) -> Any:
    """The OpenTelemetry span of what ``find_openinference_span`` returned."""
    return openinference_span._otel_span


def find_mlflow_span(span_id: str) -> Any:
    """Mlflow's span for an open span of LlamaIndex, with ``set_attribute()``; None without it."""
    for handler in get_dispatcher().span_handlers:
        span = getattr(handler.open_spans.get(span_id), "_mlflow_span", None)
        if span is not None:
            return span
    return None


def openinference_reads_streams() -> bool:
    """Whether OpenInference traces: it then reads a query engine's stream in the query's context itself."""
    return any(hasattr(handler, "_pending_streams") for handler in get_dispatcher().span_handlers)


@contextmanager
def without_openinference_warning(event: type[BaseEvent]) -> Iterator[None]:
    """A context in which OpenInference does not log that it does not know ``event``."""
    module = "openinference.instrumentation.llama_index._handler"
    if module not in sys.modules:
        yield
        return

    def is_of_another_event(record: logging.LogRecord) -> bool:
        return not record.getMessage().endswith(event.__name__)

    logger = logging.getLogger(module)
    logger.addFilter(is_of_another_event)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another_event)
