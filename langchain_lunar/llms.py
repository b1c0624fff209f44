"""``LunarLLM``: LangChain's text-in, text-out model on POST /v1/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import Field, model_validator
from typing_extensions import Self, Unpack

from langchain_lunar.connection import COST_TAGS, LunarConnection, check_parameters
from langchain_lunar.errors import model_error
from langchain_lunar.metadata import added_up, metadata_of, token_usage
from langchain_lunar.migration import as_parameter
from langchain_lunar.tracing import within_run
from lunar_core import Completion, LunarError, bridge
from lunar_core.cost.amounts import exact_sum
from lunar_core.types.completions import TextChoice
from lunar_core.version import __version__
from lunar_core.wire import tokens
from lunar_core.wire.api_requests import check_values

if TYPE_CHECKING:
    from langchain_lunar.keywords import CommonKeywords

_SENT = (
    *bridge.SAMPLING_FIELDS,
    "seed",
    "user",
    "provider",
    "extra_body",
)
"""Fields that are sent under their own name if they are set."""

_THREADS = 32
"""How many requests a sync ``generate`` of many prompts makes at once."""

_OF_RUNS = ("metadata", "run_id", "run_name", "tags")
"""Keywords of ``generate`` that are LangChain's."""


class LunarLLM(LunarConnection, BaseLLM):
    """Text completions by Lunar, each with its cost in ``generation_info``.

    Makes one request per prompt, several at once in ``batch``, ``abatch`` and ``generate``. Raises the errors of
    ``lunar_core``, each of which is a ``langchain_core`` ModelError too. The router chooses only among chat models: see
    ``ChatLunar`` and ``LunarRouterChain``.

    https://api.pureai-api.com, POST /v1/completions

    >>> llm = LunarLLM(model="gpt-4o-mini", max_tokens=50)
    >>> llm.invoke("Count to 5")
    '1 2 3 4 5'
    """

    model: str
    """A model id, or ``provider/model``."""
    temperature: float | None = None
    """0 to 2; the service's default is 0.7."""
    max_tokens: int | None = None
    """Tokens to generate at most; the service's default is 1024."""
    top_p: float | None = None
    """Sample from the likeliest tokens that make up this share, from 0 to 1."""
    stop: list[str] | str | None = None
    """Texts at which generation ends."""
    n: int | None = None
    """Answers to each prompt. They are billed as one call."""
    presence_penalty: float | None = None
    """From -2 to 2: above 0, what was said at all is said less."""
    frequency_penalty: float | None = None
    """From -2 to 2: above 0, what was said often is said less."""
    seed: int | None = None
    """The same seed, the same answer, as far as the provider can."""
    user: str | None = None
    """The end user, for the provider's abuse checks."""
    provider: str | None = None
    """The provider that must serve the model, unless ``model`` names it (``provider/model``)."""
    stream_usage: bool = True
    """Whether streams ask for their usage and cost."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Fields of the request that have no parameter here."""
    extra_body: dict[str, Any] | None = None
    """Merged into every request as it is."""

    if TYPE_CHECKING:  # pydantic's own signature lacks the alternative names of fields

        def __init__(self, **keywords: Unpack[CommonKeywords]) -> None: ...

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        check_parameters(self.model_kwargs, self.extra_body)
        check_values({name: getattr(self, name) for name in ("model", *_SENT)})
        return self

    @model_validator(mode="after")
    def _set_lunar_version(self) -> Self:
        self._add_version("lunar-integrations", __version__)
        return self

    # Calls -------------------------------------------------------------------------------------

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        model = self._with(kwargs)
        only_run = run_manager if len(prompts) == 1 else None  # it is that of the first prompt

        def ask(prompt: str) -> Completion:
            try:
                params = model._plain_params(prompt, stop)
                with within_run(only_run):
                    answer: Completion = model.clients.sync.completions.create(**params)
            except LunarError as error:
                raise model_error(error) from None
            return answer

        if len(prompts) == 1:
            return _result([ask(prompts[0])])
        with ContextThreadPoolExecutor(max_workers=_THREADS) as threads:
            return _result(list(threads.map(ask, prompts)))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        model = self._with(kwargs)
        only_run = run_manager if len(prompts) == 1 else None

        async def ask(prompt: str) -> Completion:
            client = model.clients.asynchronous
            try:
                params = model._plain_params(prompt, stop)
                with within_run(only_run):
                    answer: Completion = await client.completions.create(**params)
            except LunarError as error:
                raise model_error(error) from None
            return answer

        tasks = [asyncio.ensure_future(ask(prompt)) for prompt in prompts]
        try:
            return _result(await asyncio.gather(*tasks))
        finally:
            while tasks:  # when one has failed, the others need not go on spending
                tasks.pop().cancel()

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        try:
            params = self._with(kwargs)._stream_params(prompt, stop)
            with within_run(run_manager):
                stream = self.clients.sync.completions.create(**params)
            with stream:
                named = {"call_id": stream.call.call_id}
                for chunk in stream.plain_chunks():
                    piece = _text_chunk(chunk, named)
                    if piece is not None:
                        named = {}
                        if run_manager is not None:
                            run_manager.on_llm_new_token(piece.text, chunk=piece)
                        yield piece
                last = _last(stream.get_final_completion(), named)
                if run_manager is not None:
                    run_manager.on_llm_new_token("", chunk=last)
                yield last
        except LunarError as error:
            raise model_error(error) from None

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        try:
            params = self._with(kwargs)._stream_params(prompt, stop)
            with within_run(run_manager):
                stream = await self.clients.asynchronous.completions.create(**params)
            async with stream:
                named = {"call_id": stream.call.call_id}
                async for chunk in stream.plain_chunks():
                    piece = _text_chunk(chunk, named)
                    if piece is not None:
                        named = {}
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(piece.text, chunk=piece)
                        yield piece
                last = _last(await stream.get_final_completion(), named)
                if run_manager is not None:
                    await run_manager.on_llm_new_token("", chunk=last)
                yield last
        except LunarError as error:
            raise model_error(error) from None

    # BaseLLM's cache finds an answer by the model's settings: so a copy of the model gets the settings of the call.

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Ask for each prompt. Keywords are those of the call, and of LangChain's runs (``tags``, ``metadata``, …)."""
        of_runs = {name: kwargs.pop(name) for name in _OF_RUNS if name in kwargs}
        model = self._with(kwargs)
        return super(LunarLLM, model).generate(prompts, model._stop(stop), callbacks, **of_runs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Ask for each prompt. Keywords are those of the call, and of LangChain's runs (``tags``, ``metadata``, …)."""
        of_runs = {name: kwargs.pop(name) for name in _OF_RUNS if name in kwargs}
        model = self._with(kwargs)
        return await super(LunarLLM, model).agenerate(
            prompts, model._stop(stop), callbacks, **of_runs
        )

    def _stop(self, stop: list[str] | None) -> list[str] | None:
        if stop is not None:
            return stop
        return [self.stop] if isinstance(self.stop, str) else self.stop

    # BaseLLM would make one run of a batch, which fails as a whole and loses the cost of its other answers.

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Ask for each input at once, as a run of its own. ``max_concurrency`` of the config bounds the threads."""
        return Runnable.batch(self, inputs, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Ask for each input at once, as a run of its own. ``max_concurrency`` of the config bounds the requests."""
        return await Runnable.abatch(
            self, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    # What is sent ------------------------------------------------------------------------------

    def _with(self, keywords: Mapping[str, Any]) -> Self:
        """The model with the settings of a call."""
        bridge.check_keywords(keywords)
        named = {as_parameter(name): value for name, value in keywords.items() if name != "stream"}
        if not named:
            return self
        if named.get("extra_body"):
            named["extra_body"] = {**(self.extra_body or {}), **named["extra_body"]}
        fields = {name: value for name, value in named.items() if name in {"model", *_SENT}}
        extra = {**self.model_kwargs, **named}
        kept = {name: value for name, value in extra.items() if name not in fields}
        return self.model_copy(update={**fields, "model_kwargs": kept})

    def _plain_params(self, prompt: str, stop: list[str] | None) -> dict[str, Any]:
        return bridge.without_stream_options(self._params(prompt, stop))

    def _stream_params(self, prompt: str, stop: list[str] | None) -> dict[str, Any]:
        return {
            "stream_usage": self.stream_usage,
            **self._params(prompt, stop),
            "stream": True,
        }

    def _params(self, prompt: str, stop: list[str] | None) -> dict[str, Any]:
        params = self._identifying_params
        if stop is not None:
            params["stop"] = stop
        if not params.get("stop"):
            params.pop("stop", None)  # services refuse an empty list
        return {**params, "prompt": prompt}

    # LangChain's interface of a model ----------------------------------------------------------

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of ``text``; exact if ``custom_get_token_ids`` is set. Works offline."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return tokens.in_text(text)

    @property
    def _llm_type(self) -> str:
        return "lunar-llm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """The settings that identify the model for caches and traces: without key and address."""
        named = {name: getattr(self, name) for name in _SENT}
        fields = {name: value for name, value in named.items() if value is not None}
        return {"model": self.model, **fields, **self.model_kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "lunar"
        # For cost handlers, which see nothing of the model but these.
        if self.cost_tags:
            cast("dict[str, Any]", params)[COST_TAGS] = dict(self.cost_tags)
        return params


def _result(answers: Sequence[Completion]) -> LLMResult:
    """One list of generations for each prompt. ``llm_output`` has the sums over all of them."""
    output: dict[str, Any] = {
        "token_usage": added_up(token_usage(answer.usage) for answer in answers),
        "model_name": answers[0].model,
    }
    costs = [answer.cost for answer in answers]
    if None not in costs:
        output["total_cost_usd"] = float(exact_sum(costs))
    return LLMResult(generations=[_generations(answer) for answer in answers], llm_output=output)


def _generations(answer: Completion) -> list[Generation]:
    """The generations of a call. With several choices, only the first has usage and cost: they are the call's."""
    return [
        Generation(text=choice.text, generation_info=_info(answer, choice, spent=not number))
        for number, choice in enumerate(answer.choices)
    ]


def _info(answer: Completion, choice: TextChoice | None, *, spent: bool = True) -> dict[str, Any]:
    """Everything known of an answer but its text, tokens included: LangChain has no field for an LLM's tokens."""
    info = metadata_of(answer, choice.finish_reason if choice is not None else None, spent=spent)
    tokens = token_usage(answer.usage) if spent else None
    if tokens:
        info["token_usage"] = tokens
    if choice is not None and choice.logprobs:
        info["logprobs"] = choice.logprobs
    return info


def _text_chunk(chunk: Mapping[str, Any], named: Mapping[str, Any]) -> GenerationChunk | None:
    """The chunk for the text of the first choice, or None if there is none.

    ``named``: metadata for the first chunk of the stream, so that a stream that is left early has it.
    """
    texts = [choice.get("text") for choice in chunk["choices"] if not choice.get("index")]
    text = texts[0] if texts else None
    if not text:
        return None
    return GenerationChunk(text=text, generation_info=dict(named) or None)


def _last(answer: Completion, named: Mapping[str, Any]) -> GenerationChunk:
    """The last chunk of a stream: no text, but all metadata, once. LangChain adds chunks up."""
    info = _info(answer, answer.choices[0] if answer.choices else None)
    if not named:
        del info["call_id"]
    return GenerationChunk(text="", generation_info=info)
