"""``LunarRouterChain``: Lunar chooses the model for each prompt, and each answer says which and why."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config
from pydantic import BaseModel, ConfigDict, PrivateAttr
from typing_extensions import override

from langchain_lunar.chat_models import ChatLunar
from langchain_lunar.compat import FIELD_DESCRIPTIONS, allow_loading, without_functions_in
from langchain_lunar.parsers import make_parser
from langchain_lunar.router.chooser import RouteChooser
from langchain_lunar.router.route import Model
from langchain_lunar.router.runs import RouteRuns
from langchain_lunar.tools import (
    Method,
    Schema,
    Tool,
    structured_keywords,
    tool_keywords,
    with_parser,
    without_none,
)
from lunar_core import ConfigurationError, RoutingDecision, bridge
from lunar_core.wire.api_requests import ROUTER


class LunarRouterChain(RunnableSerializable[LanguageModelInput, AIMessage]):
    """Ask the model that Lunar's router chooses for each prompt.

    ``llm``: a ChatLunar with your settings; it is asked as the model "router". Without it, one is made of the keywords,
    which are ChatLunar's (``temperature``, ``api_key``, ``base_url``, …), and the environment. ``models``: the models
    to choose from, at least two; default all. Not together with ``llm``, which has its own. ``cost_weight``: 0.0
    ignores cost; the weight times USD per 1,000 tokens is added to a model's expected error. ``lunar_core.BREAK_TIES``
    picks the cheapest of equals, 20 to 100 trade quality for price.

    ``candidates``: Lunar decides, and your own models answer. A mapping of Lunar's model ids, at least two, to chat
    models of any vendor, or to ``"provider:model"`` strings for LangChain's ``init_chat_model``.

    ``on_routing_error="fallback"``: if the router fails, ``default_model`` (default: the first of the models) is asked
    instead. The answer then has ``response_metadata["routing_error"]``.

    The decision is in ``response_metadata["routing"]``, in the callbacks at the end of the model's run and the chain's,
    and in the custom event ``lunar_routing``. The chain's settings are in the runs' metadata. Raises the errors of
    ``lunar_core``, each of which is a ``langchain_core`` ModelError too.

    >>> chain = LunarRouterChain(models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    >>> answer = chain.invoke("Write a haiku about the sea")
    >>> answer.response_metadata["routing"]["selected_model"]
    'gpt-4o-mini'
    """

    router: ChatLunar
    """``llm``, under the name by which copies and ``load`` pass it on."""
    models: list[str] | None = None
    """The models to choose from."""
    cost_weight: bridge.CostWeight | None = None
    """0.0 ignores cost; the higher, the cheaper the choice. Or a function that returns the number."""
    candidates: dict[str, Any] | None = None
    """Your own models, which answer in place of Lunar's, by Lunar's ids."""
    on_routing_error: Literal["raise", "fallback"] = "raise"
    """What happens if the router fails: raise its error, or ask ``default_model``."""
    default_model: str | None = None
    """The model to ask if the router fails; default: the first of the models."""

    model_config = ConfigDict(arbitrary_types_allowed=True, use_attribute_docstrings=True)

    _candidate_models: dict[str, Model] = PrivateAttr(default_factory=dict)

    def __init__(
        self,
        llm: ChatLunar | None = None,
        *,
        models: Sequence[str] | None = None,
        cost_weight: bridge.CostWeight | None = None,
        candidates: Mapping[str, BaseChatModel | Runnable[Any, Any] | str] | None = None,
        on_routing_error: Literal["raise", "fallback"] = "raise",
        default_model: str | None = None,
        name: str | None = None,
        router: ChatLunar | None = None,
        **settings: Any,  # those of ChatLunar, which checks them
    ) -> None:
        if settings.get("model", ROUTER) != ROUTER:
            raise ConfigurationError("model: the router chooses it; see models and default_model")
        model = llm or router
        if llm is not None and models is not None:
            raise ConfigurationError("models: the llm has its own; give one of the two")
        if model is not None and settings:
            raise ConfigurationError(f"{', '.join(sorted(settings))}: set this on the llm instead")
        if candidates is not None and not isinstance(candidates, Mapping):
            raise ConfigurationError(
                "candidates: expected a mapping of Lunar's model ids to models"
            )
        fields: dict[str, Any] = {
            "router": model or ChatLunar(**{**settings, "model": ROUTER}),
            "models": None if models is None else list(models),
            "cost_weight": cost_weight,
            "candidates": None if candidates is None else dict(candidates),
            "on_routing_error": on_routing_error,
            "default_model": default_model,
            "name": name,
        }
        super().__init__(**fields)
        self.chooser.check()

    @property
    def llm(self) -> ChatLunar:
        """The model that is asked: the one that was given, or the one made of the settings."""
        return self.router

    @property
    def chooser(self) -> RouteChooser:
        """The chooser for the current settings."""
        return RouteChooser(
            llm=self.router,
            models=self.models,
            cost_weight=self.cost_weight,
            candidates=self.candidates,
            on_routing_error=self.on_routing_error,
            default_model=self.default_model,
            candidate_models=self._candidate_models,
        )

    # Calls -------------------------------------------------------------------------------------

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """The answer of the model that Lunar chose. Keywords are the model's, for this call; ``model=`` pins it."""
        return self._call_with_config(
            RouteRuns(self.chooser).invoke,
            input,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """The answer of the model that Lunar chose. Keywords are the model's, for this call; ``model=`` pins it."""
        return await self._acall_with_config(
            RouteRuns(self.chooser).ainvoke,
            input,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessage]:
        """The same in chunks, as they come. The decision is on one of them, mostly the first."""
        return self._transform_stream_with_config(
            iter([input]),
            RouteRuns(self.chooser).stream,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessage]:
        """The same in chunks, as they come. The decision is on one of them, mostly the first."""

        async def inputs() -> AsyncIterator[LanguageModelInput]:
            yield input

        chunks = self._atransform_stream_with_config(
            inputs(),
            RouteRuns(self.chooser).astream,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )
        async with aclosing(cast("AsyncGenerator[AIMessage, None]", chunks)) as open_chunks:
            async for chunk in open_chunks:
                yield chunk

    # Decisions ---------------------------------------------------------------------------------

    def decide(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Which model Lunar would choose, and why. Nothing is generated. ``models``, ``cost_weight``: for this call.

        >>> decisions = RunnableLambda(chain.decide).batch(prompts)  # all at once
        """
        call = cast("Callable[..., RoutingDecision]", self._call_with_config)
        return call(
            RouteRuns(self.chooser).decide,
            input,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )

    async def adecide(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Which model Lunar would choose, and why. Nothing is generated. ``models``, ``cost_weight``: for this call."""
        call = cast("Callable[..., Awaitable[RoutingDecision]]", self._acall_with_config)
        return await call(
            RouteRuns(self.chooser).adecide,
            input,
            self._with_metadata(config),
            run_type="chain",
            **kwargs,
        )

    def _with_metadata(self, config: RunnableConfig | None) -> RunnableConfig:
        """``config`` with the chain's settings in its metadata, for traces and handlers."""
        config = ensure_config(config)
        metadata = {**self.chooser.settings_metadata(), **(config.get("metadata") or {})}
        return {**config, "metadata": metadata}

    # Tools and structured output ---------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: object = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the chain with ``tools`` for its models. Keywords as for ``ChatLunar.bind_tools``.

        POST /v1/router takes no tools: the decision is then a request of its own, before the answer's.
        """
        how = without_none(
            tool_choice=tool_choice, strict=strict, parallel_tool_calls=parallel_tool_calls
        )
        if self.candidates is not None:
            return self._with_candidates(lambda model: model.bind_tools(tools, **how, **kwargs))
        return self.bind(**tool_keywords(tools, **how), **kwargs)

    def with_structured_output(
        self,
        schema: Schema,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return the chain with answers as objects of ``schema``. Keywords as for ``ChatLunar.with_structured_output``.

        ``method``: default, each candidate's own. The decision goes to callbacks and, with ``include_raw=True``, is on
        the raw message.
        """
        if self.candidates is not None:
            how = without_none(method=method, strict=strict, include_raw=include_raw)
            return self._with_candidates(
                lambda model: model.with_structured_output(schema, **how, **kwargs)
            )
        method = method or "function_calling"
        bound = self.bind(
            **structured_keywords(schema, method, strict=strict, tools=None), **kwargs
        )
        parser = make_parser(schema, method, self.router.max_tokens)
        return with_parser(bound, parser, include_raw=include_raw)

    def _with_candidates(self, change: Callable[[Any], Model]) -> Runnable[Any, Any]:
        """The chain with another form of each candidate."""
        candidate = self.chooser.candidate
        candidates = {model_id: change(candidate(model_id)) for model_id in self.candidates or ()}
        return type(self)(**{**self.__dict__, "candidates": candidates})

    # LangChain's interface of a Runnable -------------------------------------------------------

    @property
    @override
    def InputType(self) -> Any:
        """What a chat model takes: a string, messages or a prompt value."""
        return self.router.InputType

    @property
    @override
    def OutputType(self) -> Any:
        """A message."""
        return self.router.OutputType

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """As in langchain-core. The dump may then be loaded with ``allowed_objects="all"`` too."""
        allow_loading(type(self))
        return without_functions_in(super().to_json())

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True, if the candidates are serializable."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The import path in dumps. Not the file, which may move."""
        return ["langchain_lunar", "router"]

    def __getstate__(self) -> dict[Any, Any]:
        """The state without candidates that were made of strings: they are made again."""
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_candidate_models": {}}
        return {**state, "__pydantic_private__": private}


bridge.describe_fields(LunarRouterChain, FIELD_DESCRIPTIONS)
