"""What a LunarLLM is told, and what it tells of itself. The calls are in ``llm.py``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_serializer,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.types import BaseOutputParser, PydanticProgramMode
from typing_extensions import Self

from llama_index_lunar.connections import Connections
from llama_index_lunar.routes import Sticky, answer_marks, asked_of
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Observer
from lunar_core.settings import Settings, checked_timeout
from lunar_core.wire.calls import ROUTER
from lunar_core.wire.catalogue import ROUTED, context_window

JSONObject = dict[str, Any]

Secret = Annotated[SecretStr | Callable[[], str] | None, WithJsonSchema({"type": "string"})]
# Each call asks several times, for its events.
_window_of = lru_cache(maxsize=1_000)(context_window)

UNKNOWN_WINDOW = 128_000
"""Tokens that a model is taken to hold of which nothing is known: what nearly all chat models hold today."""

# Fields that decide how the service is reached: a change of one means new connections.
_REACH = (
    "api_key",
    "jwt",
    "api_base",
    "timeout",
    "max_retries",
    "total_timeout",
    "max_connections",
    "fallbacks",
    "default_headers",
    "allow_http",
)

# Arguments of OpenAI's, OpenRouter's and the vendor's classes that are about their own services.
_WITHOUT_MEANING = ("api_type", "order", "allow_fallbacks", "environment")

# Fields that are sent as they are, where they were given.
_SENT = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "provider",
    "logprobs",
    "reasoning_effort",
    "modalities",
)

_WITH_USAGE = {"include_usage": True}


class LunarSettings(FunctionCallingLLM):
    """The fields of a LunarLLM, how they are checked, sent, shown and copied."""

    model: str = Field(
        description='A Lunar model id, "provider/model", or "router" to let the service choose.'
    )
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    max_tokens: int | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    stop: list[str] | None = None
    n: int | None = Field(default=None, gt=0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    audio_config: dict[str, Any] | None = None
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    models: list[str] | None = None
    cost_weight: float | None = Field(default=None, ge=0.0)
    sticky: Sticky = "tools"
    provider: str | None = None
    fallbacks: list[str] | None = None

    api_key: Secret = Field(default=None, exclude=True, repr=False)
    jwt: Secret = Field(default=None, exclude=True, repr=False)
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    api_base: str | None = None
    api_version: str | None = None
    max_retries: int = Field(default=2, ge=0)
    timeout: Any = None
    total_timeout: float | None = None
    max_connections: int = Field(default=1000, gt=0)
    allow_http: bool = False
    reuse_client: bool = True

    context_window: int | None = Field(default=None, gt=0)
    is_chat_model: bool = True
    is_function_calling_model: bool = True
    should_use_structured_outputs: bool = False
    strict: bool = False
    tokenizer: Any = Field(default=None, exclude=True, repr=False)

    _connections: Connections = PrivateAttr()
    _reached_by: tuple[object, ...] = PrivateAttr()

    def __init__(
        self,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        max_retries: int = 2,
        timeout: object = None,
        reuse_client: bool = True,
        api_key: str | SecretStr | Callable[[], str] | None = None,
        api_base: str | None = None,
        api_version: str | None = None,
        callback_manager: CallbackManager | None = None,
        default_headers: Mapping[str, str] | None = None,
        http_client: Any = None,
        async_http_client: Any = None,
        openai_client: object = None,
        async_openai_client: object = None,
        system_prompt: str | None = None,
        messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None = None,
        completion_to_prompt: Callable[[str], str] | None = None,
        pydantic_program_mode: PydanticProgramMode = PydanticProgramMode.DEFAULT,
        output_parser: BaseOutputParser | None = None,
        strict: bool = False,
        reasoning_effort: str | None = None,
        modalities: Sequence[str] | None = None,
        audio_config: Mapping[str, Any] | None = None,
        *,  # so far in OpenAILike's own order, which positional arguments of its users have
        jwt: str | SecretStr | Callable[[], str] | None = None,
        base_url: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        observers: Sequence[Observer] = (),
        stop: str | Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        fallbacks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if "max_new_tokens" in kwargs:  # as OpenAILike takes it
            max_tokens = kwargs.pop("max_new_tokens")
        extra = _merged(additional_kwargs or {}, {"extra_body": extra_body} if extra_body else {})
        # Headers may be secrets: they are kept where nothing shows them.
        headers = {**(default_headers or {}), **(extra.pop("extra_headers", None) or {})}
        _drop(
            {
                "openai_client": openai_client,
                "async_openai_client": async_openai_client,
                "additional_kwargs['extra_query']": extra.pop("extra_query", None),
                **{name: kwargs.pop(name, None) for name in _WITHOUT_MEANING},
            }
        )
        unknown = kwargs.keys() - type(self).model_fields.keys()
        if unknown:
            raise ConfigurationError(
                f"{type(self).__name__}: unknown argument {', '.join(sorted(unknown))}. "
                "Fields of the API that have no argument go into additional_kwargs={...}"
            )
        super().__init__(
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            additional_kwargs=extra,
            max_retries=max_retries,
            timeout=tuple(timeout) if isinstance(timeout, list) else timeout,
            reuse_client=reuse_client,
            api_key=api_key,
            jwt=jwt,
            api_base=base_url if api_base is None else api_base,
            api_version=api_version,
            callback_manager=callback_manager or CallbackManager([]),
            default_headers=headers or None,
            system_prompt=system_prompt,
            messages_to_prompt=messages_to_prompt,
            completion_to_prompt=completion_to_prompt,
            pydantic_program_mode=pydantic_program_mode,
            output_parser=output_parser,
            strict=strict,
            reasoning_effort=reasoning_effort,
            modalities=modalities,
            audio_config=audio_config,
            stop=[stop] if isinstance(stop, str) else stop,
            models=models,
            fallbacks=fallbacks,
            **kwargs,
        )
        if self.model == ROUTER and not self.is_chat_model:
            raise ConfigurationError(
                "is_chat_model: the router takes chats only; name a model for text completions"
            )
        self._reached_by = self._reach()
        self._connections = Connections(self._settings(), observers, http_client, async_http_client)

    @field_serializer("timeout")
    def _timeout_as_json(self, timeout: object) -> object:
        """Seconds, or those of each step: what a stored LLM can be made from again."""
        if timeout is None or isinstance(timeout, (int, float)):
            return timeout
        return list(vars(checked_timeout(timeout)).values())

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores it."""
        return "LunarLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex goes by: how much fits into a prompt, whether tools may be used."""
        return LLMMetadata(
            context_window=self.context_window or self._window(),
            num_output=self.max_tokens or -1,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model,
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is asked before each call and told of its outcome."""
        return self._connections.observers

    def to_payload(self) -> JSONObject:
        """What events and callbacks are shown of this LLM: neither key nor headers."""
        shown = ("api_base", "provider", "models", "cost_weight", "sticky", "fallbacks")
        return {
            "class_name": self.class_name(),
            **self.metadata.model_dump(),
            **{name: value for name in shown if (value := getattr(self, name)) is not None},
        }

    def _window(self) -> int:
        """The smallest of those that may answer: what the router chooses must hold the prompt."""
        candidates = (self.models or ROUTED) if self.model == ROUTER else (self.model,)
        return min(_window_of(model) or UNKNOWN_WINDOW for model in candidates)

    # Requests

    def _chats(self, given: JSONObject) -> bool:
        """Whether this call goes to chat/completions. ``use_chat_completions`` says so per call, and is not sent."""
        asked = given.pop("use_chat_completions", None)
        return self.is_chat_model if asked is None else bool(asked)

    def _chat_params(
        self, messages: list[JSONObject], given: JSONObject, *, stream: bool = False
    ) -> tuple[JSONObject, JSONObject | None]:
        """The keywords of chat.completions.create, and the earlier decision that they keep to, if any."""
        params = {**self._params(given, stream=stream), "messages": messages}
        route = None
        if params["model"] == ROUTER:
            route = self._made().routes.of(asked_of(messages, self.sticky))
            if route is not None:
                params["model"] = route["selected_model"]
        if stream:
            params.setdefault("stream_usage", True)
        return params, route

    def _text_params(self, prompt: str, given: JSONObject, *, stream: bool = False) -> JSONObject:
        params = {**self._params(given, stream=stream), "prompt": prompt}
        if params["model"] == ROUTER:
            raise ConfigurationError(
                "model: the router takes chats only; name a model for text completions"
            )
        if params.get("max_tokens") is None and hasattr(self.tokenizer, "encode"):
            params["max_tokens"] = self._room_after(prompt)
        if params.get("logprobs") is True:  # text completions say how many, in one field
            params["logprobs"] = params.pop("top_logprobs", None) or 0
        if stream:
            params.setdefault("stream_usage", True)
        return params

    def _room_after(self, prompt: str) -> int:
        """The tokens that are left for the answer: of text completions the service itself allows few."""
        window, taken = self.metadata.context_window, len(self.tokenizer.encode(prompt))
        if taken >= window:
            raise ConfigurationError(f"prompt: {taken} tokens do not fit into the model's {window}")
        return window - taken

    def _params(self, given: Mapping[str, object], *, stream: bool) -> JSONObject:
        """What is sent beside the messages: fields, then ``additional_kwargs``, then what this call was given."""
        fields: JSONObject = {
            name: value for name in _SENT if (value := getattr(self, name)) is not None
        }
        if self.logprobs:
            fields |= {"top_logprobs": self.top_logprobs}
        if self.audio_config is not None:
            fields["audio"] = self.audio_config
        params = {"model": self.model, **fields, **_merged(self.additional_kwargs, given)}
        params.pop("stream", None)  # the endpoint says it
        if not stream or params.get("stream_options") == _WITH_USAGE:
            params.pop("stream_options", None)  # refused of plain calls; streams ask for it anyway
        if params["model"] == ROUTER:
            params = {"models": self.models, "cost_weight": self.cost_weight, **params}
        return params

    def _answered(self, response: ChatResponse) -> ChatResponse:
        """Remember how it was routed, for the calls that build on it."""
        route = response.additional_kwargs.get("routing")
        if route is not None and self.sticky != "off":
            marks = answer_marks(response.message, self.sticky)
            self._made().routes.remember(marks, route)
        return response

    # Connections

    def _made(self) -> Connections:
        """The connections, made anew when a field that they depend on has changed."""
        reach = self._reach()
        if reach != self._reached_by:
            self._connections = self._connections.with_settings(self._settings())
            self._reached_by = reach
        return self._connections

    def _reach(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in _REACH)

    def _settings(self) -> Settings:
        return Settings.resolve(
            api_key=self.api_key,
            jwt=self.jwt,
            base_url=self.api_base,
            timeout=self.timeout,
            max_retries=self.max_retries,
            total_timeout=self.total_timeout,
            max_connections=self.max_connections,
            fallbacks=self.fallbacks,
            default_headers=self.default_headers,
            allow_http=self.allow_http,
        )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A copy asks and tells the same people: its costs must reach the ledger that its owner reads.
        shared = (self.callback_manager, getattr(self, "rate_limiter", None))
        memo = {} if memo is None else memo
        memo |= {id(each): each for each in shared if each is not None}
        return super().__deepcopy__(memo)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # BaseComponent would run __init__ again, which asks for a key that a pickle need not carry.
        BaseModel.__setstate__(self, state)


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> JSONObject:
    """Both; ``second`` wins, field by field in ``extra_body`` too."""
    found = {**first, **second}
    one, other = first.get("extra_body"), second.get("extra_body")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found["extra_body"] = {**one, **other}
    return found


def _drop(given: Mapping[str, object]) -> None:
    """Warn of arguments that cannot be followed, where they were given."""
    for name, value in given.items():
        if value is not None:
            warnings.warn(f"{name} has no meaning for Lunar: dropped", stacklevel=3)
