"""Routing in LangChain: the chain, what chooses for it, and the same for agents (``middleware``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_lunar.router.chain import LunarRouterChain

__all__ = ["LunarRouterChain"]


def __getattr__(name: str) -> object:
    """The chain at its first use: chat models look into this folder too, and the chain is made of one."""
    if name != "LunarRouterChain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_lunar.router.chain import LunarRouterChain

    return LunarRouterChain
