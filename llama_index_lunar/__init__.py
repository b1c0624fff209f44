"""LlamaIndex on Lunar: ``LunarLLM`` wherever an LLM is taken, and what each call cost.

>>> from llama_index_lunar import LunarLLM
>>> llm = LunarLLM(model="router", api_key="pk_live_...")
"""

from __future__ import annotations

from lunar_core.extras import install_command

try:
    from llama_index_lunar.callbacks import (
        LunarCostCallback,
        LunarCostHandler,
        LunarCosts,
        lunar_cost,
    )
    from llama_index_lunar.llm import LunarLLM
    from llama_index_lunar.progress import lunar_progress
    from llama_index_lunar.usage_event import LunarUsageEvent
except ModuleNotFoundError as error:
    if error.name not in {"llama_index", "llama_index.core"}:
        raise
    raise ModuleNotFoundError(
        f"llama_index_lunar needs llama-index-core: {install_command('llama-index')}",
        name=error.name,
    ) from None

__all__ = [
    "LunarCostCallback",
    "LunarCostHandler",
    "LunarCosts",
    "LunarLLM",
    "LunarUsageEvent",
    "lunar_cost",
    "lunar_progress",
]
