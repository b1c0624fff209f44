"""LangChain for Lunar: chat models, routing and cost callbacks on `lunar_core`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lunar_core.extras import install_command

if TYPE_CHECKING:
    from langchain_lunar.callbacks import LunarCostCallbackHandler, get_lunar_cost
    from langchain_lunar.chat_models import ChatLunar
    from langchain_lunar.errors import lunar_retry_on
    from langchain_lunar.init_model import init_lunar_model
    from langchain_lunar.llms import LunarLLM
    from langchain_lunar.progress import lunar_progress
    from langchain_lunar.router import LunarRouterChain

__all__ = [
    "ChatLunar",
    "LunarCostCallbackHandler",
    "LunarLLM",
    "LunarRouterChain",
    "get_lunar_cost",
    "init_lunar_model",
    "lunar_progress",
    "lunar_retry_on",
]

# Each module is imported when its name is first used, so that a program pays only for what it uses.
_HOMES = {
    "ChatLunar": "chat_models",
    "LunarCostCallbackHandler": "callbacks",
    "LunarLLM": "llms",
    "LunarRouterChain": "router",
    "get_lunar_cost": "callbacks",
    "init_lunar_model": "init_model",
    "lunar_progress": "progress",
    "lunar_retry_on": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "langchain_core":
            raise
        raise ModuleNotFoundError(
            f"langchain_lunar needs langchain-core: {install_command('langchain')}",
            name=error.name,
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
