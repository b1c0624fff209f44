"""What this package uses of LlamaIndex and OpenInference beyond their public names: all of it, and nowhere else.

``tests/llama_index/test_compat.py`` has a test for each name, and runs on the lowest and the newest versions.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM


def extend_messages(llm: LLM, messages: list[ChatMessage]) -> list[ChatMessage]:
    """``messages`` with the LLM's system prompt before them, as LlamaIndex's own programs send them."""
    return llm._extend_messages(messages)


def extend_prompt(llm: LLM, prompt: str) -> str:
    """``prompt`` with the LLM's system prompt and query wrapper, as LlamaIndex's own programs send it."""
    return llm._extend_prompt(prompt)


def current_agent() -> str | None:
    """The name of the agent whose step is running here; None outside of agents.

    Workflows tell it nowhere in public. Without this name, costs are by run alone.
    """
    results = sys.modules.get("workflows.runtime.types.results")
    step = getattr(results, "StepWorkerStateContextVar", None)
    worker = step.get(None) if isinstance(step, ContextVar) else None
    name = getattr(getattr(worker, "event", None), "current_agent_name", None)
    return name if isinstance(name, str) else None
