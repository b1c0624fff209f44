"""Middleware for LangChain's agents. Needs the extra ``agents``."""

from __future__ import annotations

from langchain_lunar.budget import LunarBudgetMiddleware, LunarBudgetState
from langchain_lunar.router.middleware import LunarRoutingMiddleware, LunarRoutingState

__all__ = [
    "LunarBudgetMiddleware",
    "LunarBudgetState",
    "LunarRoutingMiddleware",
    "LunarRoutingState",
]
