"""What a LunarLLM is told, and what it tells of itself. What it does stands in ``calls.py`` and ``llm.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_serializer,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from typing_extensions import Self

from llama_index_lunar.reporting import Reporter
from llama_index_lunar.routes import Routes
from lunar_core.client.pair import ClientPair
from lunar_core.observers import Observer
from lunar_core.routing import Sticky
from lunar_core.settings import SETTING_NAMES, Settings, checked_timeout
from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.model_facts import ROUTED, context_window

JSONObject = dict[str, Any]

Secret = Annotated[SecretStr | Callable[[], str] | None, WithJsonSchema({"type": "string"})]
# Each call asks several times, for its events.
_window_of = lru_cache(maxsize=1_000)(context_window)

UNKNOWN_WINDOW = 128_000
"""Tokens that a model is taken to hold of which nothing is known: what nearly all chat models hold today."""

# The fields that decide how the service is reached: ``base_url`` is called as in OpenAILike.
_SETTINGS = {"api_base" if name == "base_url" else name: name for name in SETTING_NAMES}


class LunarSettings(FunctionCallingLLM):
    """The fields of a LunarLLM, how they are checked, shown and copied."""

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

    _clients: ClientPair = PrivateAttr()
    _settings_of_clients: dict[str, Any] = PrivateAttr()
    _routes: Routes = PrivateAttr(default_factory=Routes)

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
        everyone = self._clients.observers
        return tuple(observer for observer in everyone if not isinstance(observer, Reporter))

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

    # Clients

    def _make_clients(
        self, observers: Sequence[Observer], http_client: Any, async_http_client: Any
    ) -> None:
        """The last step of construction: the settings are checked, no connection is opened yet."""
        self._settings_of_clients = self._settings()
        # The caller's observers come first: a call that they refuse is not reported.
        everyone = (*observers, Reporter())
        settings = Settings.resolve(**self._settings_of_clients)
        self._clients = ClientPair(settings, everyone, http_client, async_http_client)

    def _current_clients(self) -> ClientPair:
        """The clients, made anew when a field that they depend on has changed."""
        settings = self._settings()
        if settings != self._settings_of_clients:
            self._clients = self._clients.with_settings(Settings.resolve(**settings))
            self._settings_of_clients, self._routes = settings, Routes()
        return self._clients

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, field) for field, name in _SETTINGS.items()}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A copy asks and tells the same people: its costs must reach the ledger that its owner reads.
        shared = (self.callback_manager, getattr(self, "rate_limiter", None))
        memo = {} if memo is None else memo
        memo |= {id(each): each for each in shared if each is not None}
        return super().__deepcopy__(memo)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # BaseComponent would run __init__ again, which asks for a key that a pickle need not carry.
        BaseModel.__setstate__(self, state)
