"""``LunarRouterChain``: Lunar chooses the model, prompt by prompt, and each answer says which and why."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import BaseModel

from langchain_lunar.chat_models import ChatLunar
from langchain_lunar.connection import loadable
from langchain_lunar.router.chooser import Deciding
from langchain_lunar.router.route import TAG, Model, atell, tell
from langchain_lunar.tools import (
    Method,
    Schema,
    Tool,
    parser_of,
    structured_keywords,
    tool_keywords,
    with_parser,
)
from lunar_core import ConfigurationError, LunarError
from lunar_core.wire.api_requests import ROUTER


@loadable
class LunarRouterChain(Deciding):
    """Ask whichever model Lunar's router deems best for the prompt.

    ``llm``: a ChatLunar with settings of your own, asked as the model "router"; else one is made from the
    keywords, which are ChatLunar's (``temperature``, ``api_key``, ``base_url``, …), and the environment.
    ``models``: whom to choose from, two at least, else all; not together with ``llm``, which has its own.
    ``cost_weight``: from 0.0, which ignores cost; the higher, the cheaper the choice.

    ``candidates``: Lunar decides, your own model objects execute. A mapping of Lunar's ids, two at least, to chat
    models of any vendor, or to ``"provider:model"`` strings for LangChain's ``init_chat_model``.

    ``on_routing_error="fallback"``: when the router fails, ask ``default_model`` (else the first of the models)
    instead. The answer then has ``response_metadata["routing_error"]``.

    The decision is in ``response_metadata["routing"]``, in what callbacks get at the end of the model's run and of
    the chain's, and in the custom event ``lunar_routing``; the chain's settings are in the runs' metadata. Raises
    the errors of ``lunar_core``, each of which is a ``langchain_core`` ModelError too.

    https://api.pureai-api.com, POST /v1/router

    >>> chain = LunarRouterChain(models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3)
    >>> answer = chain.invoke("Write a haiku about the sea")
    >>> answer.response_metadata["routing"]["selected_model"]
    'gpt-4o-mini'
    """

    # Here and not with the fields: type checkers take the constructor of the very class, else make one of the fields.
    def __init__(
        self,
        llm: ChatLunar | None = None,
        *,
        models: Sequence[str] | None = None,
        cost_weight: float | None = None,
        candidates: Mapping[str, BaseChatModel | Runnable[Any, Any] | str] | None = None,
        on_routing_error: Literal["raise", "fallback"] = "raise",
        default_model: str | None = None,
        name: str | None = None,
        router: ChatLunar | None = None,
        **settings: Any,
    ) -> None:
        if settings.get("model", ROUTER) != ROUTER:
            raise ConfigurationError("model: the router chooses it; see models and default_model")
        given = llm or router
        if llm is not None and models is not None:
            raise ConfigurationError("models: the llm has its own; give one of the two")
        if given is not None and settings:
            raise ConfigurationError(f"{', '.join(sorted(settings))}: give them to the llm")
        fields: dict[str, Any] = {
            "router": given or ChatLunar(**{**settings, "model": ROUTER}),
            "models": None if models is None else list(models),
            "cost_weight": cost_weight,
            "candidates": None if candidates is None else dict(candidates),
            "on_routing_error": on_routing_error,
            "default_model": default_model,
            "name": name,
        }
        super().__init__(**fields)
        self._check()

    # Calls -------------------------------------------------------------------------------------

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """The answer of the model that Lunar chose. Keywords are the model's, for this call; ``model=`` pins it."""
        return self._call_with_config(
            self._invoke, input, self._configured(config), run_type="chain", **kwargs
        )

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """The answer of the model that Lunar chose. Keywords are the model's, for this call; ``model=`` pins it."""
        return await self._acall_with_config(
            self._ainvoke, input, self._configured(config), run_type="chain", **kwargs
        )

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessage]:
        """The same in chunks, as they come. The decision is on one of them, mostly the first."""
        return self._transform_stream_with_config(
            iter([input]), self._stream, self._configured(config), run_type="chain", **kwargs
        )

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessage]:
        """The same in chunks, as they come. The decision is on one of them, mostly the first."""

        async def inputs() -> AsyncIterator[LanguageModelInput]:
            yield input

        chunks = self._atransform_stream_with_config(
            inputs(), self._astream, self._configured(config), run_type="chain", **kwargs
        )
        async with aclosing(cast("AsyncGenerator[AIMessage, None]", chunks)) as open_chunks:
            async for chunk in open_chunks:
                yield chunk

    # The same in both colours ------------------------------------------------------------------

    def _invoke(
        self,
        input_: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        route = self._route(input_, config, kwargs)
        while True:
            try:
                answer: AIMessage = route.model.invoke(input_, config, **route.kwargs)
            except LunarError as error:
                if not self._may_mend(error, route):
                    raise
                route = self._instead(error, kwargs)
                tell(route.news, config)
            else:
                tell(route.news_in(answer), config)
                return route.told_on(answer)

    async def _ainvoke(
        self,
        input_: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        route = await self._aroute(input_, config, kwargs)
        while True:
            try:
                answer: AIMessage = await route.model.ainvoke(input_, config, **route.kwargs)
            except LunarError as error:
                if not self._may_mend(error, route):
                    raise
                route = self._instead(error, kwargs)
                await atell(route.news, config)
            else:
                await atell(route.news_in(answer), config)
                return route.told_on(answer)

    def _stream(
        self,
        inputs: Iterator[LanguageModelInput],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        input_ = next(inputs)
        route = self._route(input_, config, kwargs)
        while True:
            begun = False
            chunks = route.model.stream(input_, config, **route.kwargs)
            try:
                with closing(cast("Generator[AIMessage, None, None]", chunks)):
                    for chunk in chunks:
                        tell(route.news_in(chunk), config)
                        yield chunk if begun else route.told_on(chunk)
                        begun = True
            except LunarError as error:
                if begun or not self._may_mend(error, route):
                    raise
                route = self._instead(error, kwargs)
                tell(route.news, config)
            else:
                return

    async def _astream(
        self,
        inputs: AsyncIterator[LanguageModelInput],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        input_ = await anext(inputs)
        route = await self._aroute(input_, config, kwargs)
        while True:
            begun = False
            chunks = route.model.astream(input_, config, **route.kwargs)
            try:
                async with aclosing(cast("AsyncGenerator[AIMessage, None]", chunks)):
                    async for chunk in chunks:
                        await atell(route.news_in(chunk), config)
                        yield chunk if begun else route.told_on(chunk)
                        begun = True
            except LunarError as error:
                if begun or not self._may_mend(error, route):
                    raise
                route = self._instead(error, kwargs)
                await atell(route.news, config)
            else:
                return

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
        """The chain, whose models may call ``tools``. Keywords as for ``ChatLunar.bind_tools``.

        POST /v1/router knows no tools: the decision is asked for first then, in a request of its own.
        """
        how = _given(
            tool_choice=tool_choice, strict=strict, parallel_tool_calls=parallel_tool_calls
        )
        if self.candidates is not None:
            return self._each(lambda model: model.bind_tools(tools, **how, **kwargs))
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
        """The chain, whose answers are objects of ``schema``. Keywords as for ``ChatLunar.with_structured_output``.

        ``method``: each candidate's own default, unless it is given. The decision is told to callbacks, and is on the
        raw message with ``include_raw=True``.
        """
        if self.candidates is not None:
            how = _given(method=method, strict=strict, include_raw=include_raw)
            return self._each(lambda model: model.with_structured_output(schema, **how, **kwargs))
        method = method or "function_calling"
        bound = self.bind(
            **structured_keywords(schema, method, strict=strict, tools=None), **kwargs
        )
        return with_parser(bound, parser_of(schema, method), include_raw=include_raw)

    def _each(self, change: Callable[[Any], Model]) -> Runnable[Any, Any]:
        """The chain with another form of each candidate."""
        candidates = {
            model_id: change(self._candidate(model_id)) for model_id in self.candidates or ()
        }
        return type(self)(**{**self.__dict__, "candidates": candidates})

    # What LangChain asks of a Runnable ---------------------------------------------------------

    @property
    def InputType(self) -> Any:  # noqa: N802  # LangChain's name
        """What a chat model takes: a string, messages or a prompt value."""
        return self.router.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802  # LangChain's name
        """A message."""
        return self.router.OutputType

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes, as far as the candidates are."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where it is imported from, in dumps: not the file, which may move."""
        return ["langchain_lunar", "router"]


def _given(**keywords: Any) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if value is not None}
