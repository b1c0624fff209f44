"""``ChatLunar``: LangChain's chat model on ``lunar_core``."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, model_validator
from typing_extensions import Self, Unpack

from langchain_lunar.connection import COST_TAGS, LunarConnection, check_parameters
from langchain_lunar.errors import model_error
from langchain_lunar.messages import ReplayReasoning, to_countable
from langchain_lunar.metadata import added_up
from langchain_lunar.parsers import make_parser
from langchain_lunar.profiles import profile_of
from langchain_lunar.requests import SENT_FIELDS, make_request
from langchain_lunar.tools import (
    PARSED_AS,
    Method,
    Schema,
    Tool,
    is_schema_class,
    response_format,
    structured_keywords,
    tool_keywords,
    with_parser,
)
from langchain_lunar.tracing import describe_run, name_run, within_run
from lunar_core.bridge import CostWeight, without_functions
from lunar_core.errors import LunarError
from lunar_core.observers import within_span
from lunar_core.routing import Sticky
from lunar_core.version import __version__
from lunar_core.wire import tokens
from lunar_core.wire.api_requests import check_values

if TYPE_CHECKING:
    from langchain_lunar.keywords import ChatKeywords


class ChatLunar(LunarConnection, BaseChatModel):
    """A chat model that Lunar serves. With ``model="router"`` Lunar chooses the model for each prompt.

    An answer's ``response_metadata`` has its cost and its model: ``total_cost_usd`` and its parts (USD, as billed),
    ``latency_ms``, ``ttft_ms``, ``model_name``, ``requested_model``, ``provider``, ``routing``, …; tokens are in
    ``usage_metadata``. Streams have the same on their last chunk, and the route and the ``call_id`` on their first.

    Keywords of a call override the fields of the model, also ``timeout``, ``max_retries``, ``total_timeout``,
    ``fallbacks`` and ``extra_headers``. Fields of ``POST /v1/chat/completions`` that are not listed here are sent as
    they are. ``model=`` pins a single call of a routed model.

    Raises ``ConfigurationError`` for a wrong setting, before anything is sent; then ``lunar_core``'s errors, each of
    which is a ``langchain_core.exceptions.ModelError`` too. https://api.pureai-api.com

    >>> llm = ChatLunar(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    >>> answer = llm.invoke("Say hello in Italian.")
    >>> metadata = answer.response_metadata
    >>> answer.content, metadata["model_name"], f"{metadata['total_cost_usd']:.8f} USD"
    ('hello in Italian', 'gpt-4o', '0.00004750 USD')
    """

    model: str
    """A model's id (``gpt-4o-mini``), ``provider/model`` to force a provider, or ``router``."""
    models: list[str] | None = None
    """With the router: the models to choose from, at least 2; default all that it knows."""
    cost_weight: CostWeight | None = None
    """With the router: 0 (the default) ignores cost; the higher, the cheaper. A function that returns the number is
    called for each request (``budget.cost_weight()``)."""
    sticky: Sticky = "tools"
    """With the router: stay with the model that answered until its tool calls are answered ("tools"), for the whole
    "conversation", or never ("off")."""
    provider: str | None = None
    """The provider that must serve the model."""
    replay_reasoning: ReplayReasoning = "tools"
    """Send a model its own reasoning again: with the tool calls that are being answered ("tools", as DeepSeek and Kimi
    want it), with each of its answers ("always"), or "never"."""

    temperature: float | None = None
    """From 0 to 2. Sent only if set; the service's own default is 0.7."""
    max_tokens: int | None = None
    """Tokens to generate at most."""
    top_p: float | None = None
    """Sample from the likeliest tokens that make up this share, from 0 to 1."""
    stop: list[str] | str | None = None
    """Texts at which generation ends."""
    n: int | None = None
    """How many answers to one prompt. ``generate`` returns them all, ``invoke`` and streams the first."""
    presence_penalty: float | None = None
    """From -2 to 2: above 0, what was said at all is said less."""
    frequency_penalty: float | None = None
    """From -2 to 2: above 0, what was said often is said less."""
    seed: int | None = None
    """The same seed, the same answer, as far as the provider can."""
    logprobs: bool | None = None
    """Ask for log probabilities: they are in ``response_metadata["logprobs"]``."""
    top_logprobs: int | None = None
    """With ``logprobs``: how many of the likeliest tokens to return at each place."""
    logit_bias: dict[int | str, float] | None = None
    """By token id, from -100 (never) to 100 (only)."""
    reasoning_effort: str | None = None
    """How long reasoning models may think: "low", "medium", "high", or what the provider knows."""
    user: str | None = None
    """The end user, for the provider's abuse checks."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters that have no field here, sent as they are."""
    extra_body: dict[str, Any] | None = None
    """The same, merged into the body last."""

    streaming: bool | None = None
    """True: ``invoke`` streams too, for the sake of callbacks. False: never stream. None: as LangChain decides."""
    stream_usage: bool = True
    """Ask that streams of chat/completions state tokens and cost at their end."""
    langsmith_cost: bool = False
    """Put USD into the ``usage_metadata`` of answers, from where LangSmith reads them. LangChain cannot add floats up:
    streams stay without (see ``response_metadata``), and its ``UsageMetadataCallbackHandler`` counts one call only."""

    if TYPE_CHECKING:  # pydantic's own signature lacks the alternative names of fields

        def __init__(self, **keywords: Unpack[ChatKeywords]) -> None: ...

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        check_parameters(self.model_kwargs, self.extra_body)
        check_values({name: getattr(self, name) for name in ("model", *SENT_FIELDS)})
        return self

    @model_validator(mode="after")
    def _set_lunar_version(self) -> Self:
        self._add_version("lunar-integrations", __version__)
        return self

    # Calls -------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = make_request(self, messages, stop, kwargs, stream=False)
        try:
            with within_run(run_manager):
                answer = self.clients.sync.chat.completions.create(**request.params)
        except LunarError as error:
            raise model_error(error) from None
        result = request.to_result(answer)
        describe_run(run_manager, result.generations[0].message.response_metadata)
        return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = make_request(self, messages, stop, kwargs, stream=False)
        try:
            with within_run(run_manager):
                answer = await self.clients.asynchronous.chat.completions.create(**request.params)
        except LunarError as error:
            raise model_error(error) from None
        result = request.to_result(answer)
        describe_run(run_manager, result.generations[0].message.response_metadata)
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = make_request(self, messages, stop, kwargs, stream=True)
        failure: Exception | None = None
        extra: dict[str, Any] = {}
        try:
            with within_run(run_manager):
                stream = self.clients.sync.chat.completions.create(**request.params)
        except LunarError as error:
            raise model_error(error) from None
        converter = request.converter(stream.call.call_id)
        with stream:
            try:
                for chunk in stream.plain_chunks():
                    piece = converter.feed(chunk)
                    if piece is not None:
                        if run_manager is not None:
                            run_manager.on_llm_new_token(piece.text, chunk=piece)
                        yield piece
                answer = stream.get_final_completion() if request.is_checked else None
                extra = request.check_stream(answer)
            except (LunarError, OutputParserException) as error:
                failure = model_error(error) if isinstance(error, LunarError) else error
        # Callbacks get a stream's usage only from its chunks, also when it broke off.
        if failure is None or converter.has_usage:
            for piece in converter.last(stream.call, is_whole=failure is None, extra=extra):
                if run_manager is not None:
                    run_manager.on_llm_new_token("", chunk=piece)
                yield piece
        if failure is not None:
            raise failure

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = make_request(self, messages, stop, kwargs, stream=True)
        failure: Exception | None = None
        extra: dict[str, Any] = {}
        try:
            with within_run(run_manager):
                stream = await self.clients.asynchronous.chat.completions.create(**request.params)
        except LunarError as error:
            raise model_error(error) from None
        converter = request.converter(stream.call.call_id)
        async with stream:
            try:
                async for chunk in stream.plain_chunks():
                    piece = converter.feed(chunk)
                    if piece is not None:
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(piece.text, chunk=piece)
                        yield piece
                answer = await stream.get_final_completion() if request.is_checked else None
                extra = request.check_stream(answer)
            except (LunarError, OutputParserException) as error:
                failure = model_error(error) if isinstance(error, LunarError) else error
        # The last chunk comes after the connection is released: a loop that closes now finds the run ended.
        if failure is None or converter.has_usage:
            for piece in converter.last(stream.call, is_whole=failure is None, extra=extra):
                if run_manager is not None:
                    await run_manager.on_llm_new_token("", chunk=piece)
                yield piece
        if failure is not None:
            raise failure

    # Tracers get the answer's model and cost before the run of a stream ends

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Yield the answer in chunks, as they come. Keywords override the model's fields."""
        config, run = name_run(config, self.callbacks)
        chunks = super().stream(input, config, stop=stop, **kwargs)
        with closing(cast("Generator[AIMessageChunk, None, None]", chunks)):
            with within_span(run.find_span):  # the call is made before the first chunk
                chunk = next(chunks, None)
            while chunk is not None:
                if "model_name" in chunk.response_metadata:
                    run.describe(chunk.response_metadata)
                yield chunk
                chunk = next(chunks, None)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the answer in chunks, as they come. Keywords override the model's fields."""
        config, run = name_run(config, self.callbacks)
        chunks = super().astream(input, config, stop=stop, **kwargs)
        async with aclosing(cast("AsyncGenerator[AIMessageChunk, None]", chunks)):
            with within_span(run.find_span):  # the call is made before the first chunk
                chunk = await anext(chunks, None)
            while chunk is not None:
                if "model_name" in chunk.response_metadata:
                    run.describe(chunk.response_metadata)
                yield chunk
                chunk = await anext(chunks, None)

    def _combine_llm_outputs(self, outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        counts = added_up((output or {}).get("token_usage", {}) for output in outputs)
        return {"token_usage": counts, "model_name": self.model}

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
        """Return the model with ``tools``: functions, pydantic classes, TypedDicts, LangChain tools, or descriptions.

        ``tool_choice``: "auto", "none", "any", "required" or True (some tool must be called), or the name of a tool,
        also as a dict. ``strict``: the arguments must fit the schema exactly. ``response_format``: a class; the
        answer's object is in ``additional_kwargs["parsed"]``. Raises ConfigurationError for a name that is no tool's.
        """
        schema = kwargs.get("response_format")
        if is_schema_class(schema):
            kwargs["response_format"] = response_format(schema, strict=strict)
            kwargs[PARSED_AS] = schema
        bound = tool_keywords(
            tools, tool_choice, strict=strict, parallel_tool_calls=parallel_tool_calls
        )
        return self.bind(**bound, **kwargs)

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return the model with answers in the form of ``schema``: objects of a pydantic class, else dicts.

        ``method``: "function_calling" forces a tool call, which every routed model knows. "json_schema" is the
        providers' own structured output, and allows ``tools`` beside it. "json_mode" asks for any JSON, whose form the
        prompt must describe. "prompt" puts the schema into the prompt, for models without tools. ``include_raw``:
        return dicts with ``raw``, ``parsed`` and ``parsing_error``.

        Raises OutputTruncatedError (also an OutputParserException) for incomplete output, and ToolChoiceIgnoredError
        for an answer without the forced tool call.
        """
        bound = structured_keywords(schema, method, strict=strict, tools=tools)
        return with_parser(
            self.bind(**bound, **kwargs),
            make_parser(schema, method, self.max_tokens),
            include_raw=include_raw,
        )

    # LangChain's interface of a model ----------------------------------------------------------

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of ``text``; exact if ``custom_get_token_ids`` is set. Works offline."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return tokens.in_text(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Estimate the tokens of a conversation with its ``tools``. Works offline.

        >>> trim_messages(history, max_tokens=4_000, token_counter=llm)  # doctest: +SKIP
        """
        described = [convert_to_openai_tool(tool) for tool in tools or ()]
        return tokens.in_messages(to_countable(messages), described, count=self.get_num_tokens)

    def _resolve_model_profile(self) -> ModelProfile | None:
        return profile_of(self.model, self.models)

    @property
    def _llm_type(self) -> str:
        return "lunar-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """The settings that identify the model for caches and traces: without key and address."""
        named = {
            name: value
            for name in ("fallbacks", *SENT_FIELDS)
            if (value := getattr(self, name)) is not None
        }
        return without_functions({"model": self.model, **named, **self.model_kwargs})

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return super()._get_invocation_params(stop=stop, **without_functions(kwargs))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return super()._get_llm_string(stop=stop, **without_functions(kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        stop = stop or ([self.stop] if isinstance(self.stop, str) else self.stop)
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "lunar"
        # For cost handlers, which see nothing of the model but these.
        if self.cost_tags:
            cast("dict[str, Any]", params)[COST_TAGS] = dict(self.cost_tags)
        return params


# langchain-core inspects these signatures with every call; a stored one takes a fifth of the time.
for _method in (vars(ChatLunar)["_generate"], vars(ChatLunar)["_agenerate"]):
    _method.__signature__ = inspect.signature(_method)
