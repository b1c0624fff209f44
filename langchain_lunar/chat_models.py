"""``ChatLunar``: LangChain's chat model on ``lunar_core``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, model_validator
from typing_extensions import Self

from langchain_lunar.chunks import ChunkConverter
from langchain_lunar.connection import LunarConnection
from langchain_lunar.errors import model_error
from langchain_lunar.messages import from_wire, generation_info, to_wire, usage_metadata
from langchain_lunar.migration import ALIASES
from lunar_core import bridge, routing
from lunar_core.errors import LunarError
from lunar_core.version import __version__
from lunar_core.wire.calls import ROUTER
from lunar_core.wire.completions import ChatCompletion

_SENT = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "user",
    "provider",
    "models",
    "cost_weight",
    "extra_body",
)
"""Fields that are sent under their own name, when they have a value."""

_FOR_LANGCHAIN = (
    "ls_structured_output_format",
    "structured_output_format",
    "stream",
    "stream_usage",
)
"""Keywords of a call that never reach the service."""


class ChatLunar(LunarConnection, BaseChatModel):
    """A chat model on Lunar."""

    model_name: str = Field(alias="model")
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: list[str] | str | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    provider: str | None = None
    models: list[str] | None = None
    cost_weight: float | None = None
    sticky: Literal["off", "tools", "conversation"] = "tools"
    streaming: bool | None = None
    stream_usage: bool = True
    langsmith_cost: bool = False
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    extra_body: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _set_lunar_version(self) -> Self:
        self._add_version("lunar-integrations", __version__)
        return self

    @property
    def model(self) -> str:
        """The model that is asked: ``model_name`` by its other name."""
        return self.model_name

    # What is sent ------------------------------------------------------------------------------

    def _params(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        params: dict[str, Any] = {"model": self.model_name}
        for name in _SENT:
            value = getattr(self, name)
            if value is not None:
                params[name] = value
        params.update(self.model_kwargs)
        for name, value in given.items():
            if name not in _FOR_LANGCHAIN:
                name = (
                    "model"
                    if name == "model_name"
                    else ALIASES.get(name, name)
                    if name != "model"
                    else name
                )
                params[name] = value
        if stop is not None:
            params["stop"] = stop
        if not params.get("stop"):
            params.pop("stop", None)
        if params["model"] == ROUTER:
            params["model"] = sticky_model(messages, self.sticky) or ROUTER
        params["messages"] = to_wire(messages)
        return params

    def _stream_params(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        params = self._params(messages, stop, given)
        params["stream"] = True
        if given.get("stream_usage", self.stream_usage) and "stream_options" not in params:
            # One POST /v1/router has no stream_options; asking for them would cost a second request.
            if params["model"] != ROUTER or not routing.takes_one_request(params):
                params["stream_options"] = {"include_usage": True}
        return params

    # Calls -------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        try:
            answer = self._client().chat.completions.create(**self._params(messages, stop, kwargs))
        except LunarError as error:
            raise model_error(error) from None
        return self._result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        try:
            answer = await self._async_client().chat.completions.create(
                **self._params(messages, stop, kwargs)
            )
        except LunarError as error:
            raise model_error(error) from None
        return self._result(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        converter = ChunkConverter(langsmith_cost=self.langsmith_cost)
        failure: LunarError | None = None
        try:
            stream = self._client().chat.completions.create(
                **self._stream_params(messages, stop, kwargs)
            )
        except LunarError as error:
            raise model_error(error) from None
        with stream:
            try:
                for chunk in stream.plain_chunks():
                    said = converter.feed(chunk)
                    if said is not None:
                        if run_manager is not None:
                            run_manager.on_llm_new_token(said.text, chunk=said)
                        yield said
            except LunarError as error:
                failure = model_error(error)
            if failure is None or converter.has_usage:
                last = converter.last(stream.call, position=None if failure else "last")
                if run_manager is not None:
                    run_manager.on_llm_new_token("", chunk=last)
                yield last
        if failure is not None:
            raise failure

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        converter = ChunkConverter(langsmith_cost=self.langsmith_cost)
        failure: LunarError | None = None
        try:
            stream = await self._async_client().chat.completions.create(
                **self._stream_params(messages, stop, kwargs)
            )
        except LunarError as error:
            raise model_error(error) from None
        async with stream:
            try:
                async for chunk in stream.plain_chunks():
                    said = converter.feed(chunk)
                    if said is not None:
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(said.text, chunk=said)
                        yield said
            except LunarError as error:
                failure = model_error(error)
            if failure is None or converter.has_usage:
                last = converter.last(stream.call, position=None if failure else "last")
                if run_manager is not None:
                    await run_manager.on_llm_new_token("", chunk=last)
                yield last
        if failure is not None:
            raise failure

    def _result(self, answer: ChatCompletion) -> ChatResult:
        usage = usage_metadata(answer.usage, cost=self.langsmith_cost)
        generations = []
        for choice in answer.choices:
            metadata = bridge.metadata(
                call=answer.call,
                model=answer.model,
                answer_id=answer.id,
                finish_reason=choice.finish_reason,
                usage=answer.usage,
                routing=answer.routing,
                extra=answer.model_extra,
            )
            message = from_wire(choice.message)
            message.response_metadata = metadata
            message.usage_metadata = usage
            info = generation_info(metadata)
            if choice.logprobs:
                info["logprobs"] = choice.logprobs
            generations.append(ChatGeneration(message=message, generation_info=info))
        tokens = {key: value for key, value in (usage or {}).items() if isinstance(value, int)}
        return ChatResult(
            generations=generations, llm_output={"token_usage": tokens, "model_name": answer.model}
        )

    # What LangChain asks of a model ------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "lunar-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in _SENT}
        return {
            "model_name": self.model_name,
            **{k: v for k, v in named.items() if v is not None},
            **self.model_kwargs,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "lunar"
        return params

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes: ``dumpd`` and ``load`` carry everything but keys, headers and clients."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where a loaded model finds its key again."""
        return {"api_key": "LUNAR_API_KEY", "jwt": "LUNAR_JWT"}


def sticky_model(
    messages: Sequence[BaseMessage], sticky: Literal["off", "tools", "conversation"]
) -> str | None:
    """The model that answered before and shall answer again, or None to let the router choose.

    "tools": while its tool calls are being answered; "conversation": always once one has answered.
    """
    if sticky == "off":
        return None
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            if sticky == "tools" and not (message.tool_calls and message is not messages[-1]):
                return None
            name = message.response_metadata.get("model_name")
            return name if isinstance(name, str) and name else None
        if sticky == "tools" and not isinstance(message, ToolMessage):
            return None
    return None
