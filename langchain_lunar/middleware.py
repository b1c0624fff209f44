"""Middleware for LangChain's agents. Needs the extra ``agents``."""

from __future__ import annotations

from lunar_core.extras import install_command

try:
    from langchain_lunar.budget import LunarBudgetMiddleware, LunarBudgetState
    from langchain_lunar.router.middleware import LunarRoutingMiddleware, LunarRoutingState
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package != "langchain_core":  # the module that needs another one says so itself
        raise
    raise ModuleNotFoundError(
        f"langchain_lunar.middleware needs langchain and langgraph: {install_command('agents')}",
        name=error.name,
    ) from None

__all__ = [
    "LunarBudgetMiddleware",
    "LunarBudgetState",
    "LunarRoutingMiddleware",
    "LunarRoutingState",
]
