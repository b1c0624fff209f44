"""``init_lunar_model``: makes a model by its name, as LangChain's ``init_chat_model`` does."""

from __future__ import annotations

from typing import Any

from langchain_lunar.chat_models import ChatLunar
from lunar_core import ConfigurationError
from lunar_core.wire.api_requests import ROUTER


def init_lunar_model(
    model: str = ROUTER,
    **settings: Any,  # those of ChatLunar, which checks them
) -> ChatLunar:
    """Make the chat model of a name, such as ``"router"``, ``"gpt-4o-mini"`` or ``"openai/gpt-4o-mini"``.

    LangChain's ``init_chat_model`` has a fixed list of providers, so this function takes its place. It also takes
    ``"lunar:gpt-4o-mini"``; ``settings`` are those of ChatLunar. Give the model wherever LangChain takes a model object
    (``create_agent(model=init_lunar_model("router"))``). To choose the model at run time, make its fields
    configurable::

        llm = init_lunar_model("router").configurable_fields(model=ConfigurableField("model"))
        llm.invoke("Say hello", config={"configurable": {"model": "gpt-4o"}})

    Raises ConfigurationError for a setting that cannot work, before anything is sent.

    >>> init_lunar_model("gpt-4o-mini", temperature=0).model
    'gpt-4o-mini'
    """
    provider, colon, name = model.partition(":")
    if colon and provider == "lunar":
        model = name
    if not model.strip():
        raise ConfigurationError("model: is empty")
    return ChatLunar(model=model, **settings)
