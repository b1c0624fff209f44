"""Routing in LangChain: the chain, the chooser behind it, and the middleware for agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_lunar.router.chain import LunarRouterChain

__all__ = ["LunarRouterChain"]


def __getattr__(name: str) -> object:
    """Import the chain at its first use: it imports chat models, which import from this folder."""
    if name != "LunarRouterChain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_lunar.router.chain import LunarRouterChain

    return LunarRouterChain
