"""Who answers a prompt, and how that is told: to the answer's metadata and to the callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from lunar_core import ConfigurationError

EVENT = "lunar_routing"
"""The custom event of a decision. Its data is the decision; ``routing_error`` is in it when there was none."""

DECIDED = "lunar_routing"
"""The keyword by which ChatLunar is told of the decision that had it asked, so that its own run tells of it too."""

TAG = "lunar_router"
"""LangChain's tag of the runs that a router chain starts."""

A = TypeVar("A")
Model = Runnable[LanguageModelInput, Any]


@dataclass(frozen=True)
class Route:
    """Who is asked, and with which keywords.

    ``told``: what the answer's ``response_metadata`` gets, as the model doesn't know it itself. ``is_open``: Lunar
    decides as it answers, so the decision, or its failure, comes with the answer.
    """

    model: Model
    kwargs: Mapping[str, Any]
    model_id: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    is_open: bool = False

    @property
    def news(self) -> Mapping[str, Any]:
        """What is known of the decision before anybody answers: the data of the event, empty without one."""
        if "routing_error" in self.told:
            return {"selected_model": self.model_id, **self.told}
        return self.told.get("routing") or {}

    def news_in(self, answer: object) -> Mapping[str, Any]:
        """The decision that came with an answer or a chunk of it; empty if it was known before, or isn't there."""
        message = _message_in(answer) if self.is_open else None
        return (message.response_metadata.get("routing") or {}) if message is not None else {}

    def told_on(self, answer: A) -> A:
        """The answer, saying how it came about. LangChain's caches may hold the same message: it is left alone."""
        message = _message_in(answer)
        if not self.told or message is None:
            return answer
        told = {**message.response_metadata, **self.told}
        twin = message.model_copy(update={"response_metadata": told})
        return cast(
            "A", twin if message is answer else {**cast("dict[str, Any]", answer), "raw": twin}
        )


def tell(news: Mapping[str, Any], config: RunnableConfig) -> None:
    """Let the callbacks of ``config``, which must be those of a run, know of a decision."""
    if news:
        dispatch_custom_event(EVENT, dict(news), config=config)


async def atell(news: Mapping[str, Any], config: RunnableConfig) -> None:
    """Let the callbacks of ``config``, which must be those of a run, know of a decision."""
    if news:
        await adispatch_custom_event(EVENT, dict(news), config=config)


def matching(name: str, ids: Iterable[str]) -> str | None:
    """The one of ``ids`` that ``name`` means: with or without its provider in front, the same spelling first."""
    listed = list(ids)
    if name in listed:
        return name
    bare = name.partition("/")[2] or name
    return next((known for known in listed if (known.partition("/")[2] or known) == bare), None)


def chat_model(name: str) -> Model:
    """The model of a ``provider:model`` string, as LangChain makes it. Raises ConfigurationError if that can't be."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        raise ConfigurationError(
            f"candidates: {name!r} needs the package langchain: pip install 'lunar-integrations[agents]'"
        ) from None
    try:
        made: Model = init_chat_model(name)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"candidates: {name!r}: {error}") from error
    return made


def _message_in(answer: object) -> BaseMessage | None:
    """The message of an answer: itself, or the raw one of a structured output."""
    found = answer.get("raw") if isinstance(answer, dict) else answer
    return found if isinstance(found, BaseMessage) else None
