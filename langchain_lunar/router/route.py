"""The route to the model that answers, and how it is reported: in the answer's metadata and to callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from lunar_core import ConfigurationError
from lunar_core.extras import install_command

EVENT = "lunar_routing"
"""The custom event of a decision. Its data is the decision, or has ``routing_error`` if there was none."""

DECISION = "lunar_routing"
"""The keyword of a call that gives ChatLunar the decision behind it, so that its own run shows it too."""

TAG = "lunar_router"
"""The LangChain tag of runs that a router chain starts."""

A = TypeVar("A")
Model = Runnable[LanguageModelInput, Any]


@dataclass(frozen=True)
class Route:
    """The model to ask, and the keywords of the call.

    ``metadata``: additions to the answer's ``response_metadata``. ``is_undecided``: Lunar decides as it answers, so
    that the decision, or its failure, comes with the answer.
    """

    model: Model
    kwargs: Mapping[str, Any]
    model_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_undecided: bool = False

    @property
    def decision(self) -> Mapping[str, Any]:
        """The decision before the answer: the data of the event; empty if there is none."""
        if "routing_error" in self.metadata:
            return {"selected_model": self.model_id, **self.metadata}
        return self.metadata.get("routing") or {}

    def decision_in(self, answer: object) -> Mapping[str, Any]:
        """The decision that came with an answer or a chunk; empty if it was known before, or is missing."""
        message = _message_in(answer) if self.is_undecided else None
        return (message.response_metadata.get("routing") or {}) if message is not None else {}

    def annotate(self, answer: A) -> A:
        """A copy of the answer with the route in its metadata.

        A copy, since LangChain's caches may hold the message.
        """
        message = _message_in(answer)
        if not self.metadata or message is None:
            return answer
        metadata = {**message.response_metadata, **self.metadata}
        twin = message.model_copy(update={"response_metadata": metadata})
        return cast(
            "A", twin if message is answer else {**cast("dict[str, Any]", answer), "raw": twin}
        )


def dispatch_decision(decision: Mapping[str, Any], config: RunnableConfig) -> None:
    """Send a decision to the callbacks of ``config``, which must be those of a run."""
    if decision:
        dispatch_custom_event(EVENT, dict(decision), config=config)


async def adispatch_decision(decision: Mapping[str, Any], config: RunnableConfig) -> None:
    """Send a decision to the callbacks of ``config``, which must be those of a run."""
    if decision:
        await adispatch_custom_event(EVENT, dict(decision), config=config)


def find_model(name: str, ids: Iterable[str]) -> str | None:
    """The one of ``ids`` that ``name`` means: the same name, else the same without its provider."""
    listed = list(ids)
    if name in listed:
        return name
    return next((model_id for model_id in listed if _bare(model_id) == _bare(name)), None)


def profile_names(ids: Iterable[str]) -> list[str]:
    """``ids`` as the router's profiles name them: without a provider. Unchanged if two would become one.

    >>> profile_names(["openai/gpt-4o", "gpt-4o-mini"])
    ['gpt-4o', 'gpt-4o-mini']
    """
    listed = list(ids)
    bare = [_bare(model_id) for model_id in listed]
    return bare if len(set(bare)) == len(bare) else listed


def _bare(model_id: str) -> str:
    """The id without its provider."""
    return model_id.partition("/")[2] or model_id


def chat_model(name: str) -> Model:
    """Make the model of a ``provider:model`` string by LangChain. Raises ConfigurationError if that fails."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        raise ConfigurationError(
            f"candidates: {name!r} needs the package langchain: {install_command('agents')}"
        ) from None
    try:
        model: Model = init_chat_model(name)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"candidates: {name!r}: {error}") from error
    return model


def _message_in(answer: object) -> BaseMessage | None:
    """The message of an answer: itself, or the raw message of structured output."""
    message = answer.get("raw") if isinstance(answer, dict) else answer
    return message if isinstance(message, BaseMessage) else None
