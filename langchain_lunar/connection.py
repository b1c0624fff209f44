"""The fields and clients that ``ChatLunar`` and ``LunarLLM`` share: how the service is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.load.serializable import (
    Serializable,
    SerializedConstructor,
    SerializedNotImplemented,
)
from langchain_core.runnables import RunnableSerializable
from langchain_core.runnables.utils import AnyConfigurableField
from langchain_core.utils import from_env, secret_from_env
from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from langchain_lunar.compat import (
    FIELD_DESCRIPTIONS,
    allow_loading,
    forget_serialized,
    without_functions_in,
)
from langchain_lunar.migration import as_field, as_fields
from lunar_core import bridge
from lunar_core.checks import Timeout, checked_timeout
from lunar_core.client.pair import ClientPair
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Observer, checked_observers
from lunar_core.settings import SETTING_NAMES, Settings
from lunar_core.wire.api_requests import check_values

Secret = str | SecretStr | Callable[[], str] | None
"""A string is kept as a SecretStr."""

_CLIENT_FIELDS = frozenset(
    {*SETTING_NAMES, "cost_tags", "http_async_client", "http_client", "observers"}
)
"""Fields that the clients depend on: when one of them changes, the next call makes new clients."""

COST_TAGS = "lunar_tags"
"""The key of a run's metadata with the cost tags of its model."""

_NOT_COPIED = (
    "cache",
    "callbacks",
    "http_async_client",
    "http_client",
    "observers",
    "rate_limiter",
)
"""Objects that a model is given, and does not own: a deep copy of the model shares them."""


class LunarConnection(Serializable):
    """How to reach the service. Each setting is the argument, else the environment, else the core's default.

    Everything is checked at construction (ConfigurationError); connections are opened at the first call. One model may
    be used by any number of threads, tasks and event loops, and be forked, copied and pickled. A shallow copy shares
    the connections; a deep copy and a pickle open their own. A key from the environment is not pickled.
    """

    model: str
    """A model's id (``gpt-4o-mini``), or ``provider/model`` to force a provider."""
    api_key: Secret = Field(default_factory=secret_from_env("LUNAR_API_KEY", default=None))
    """The API key, or a function that returns one and is called for each request. Default: LUNAR_API_KEY."""
    jwt: Secret = None
    """A token instead of the key, or a function that returns one. Default: LUNAR_JWT."""
    base_url: str | None = Field(default_factory=from_env("LUNAR_BASE_URL", default=None))
    """The service. Default: LUNAR_BASE_URL, else the hosted one. Plain http only on this machine, or see allow_http."""
    timeout: float | tuple[float | None, ...] | Timeout | None = None
    """Seconds, ``(connect, read)``, ``lunar_core.Timeout`` or httpx's own. By default 5 to connect, 600 to read."""
    max_retries: int = 2
    """How often a failed request is retried, for each model. 0: never."""
    total_timeout: float | None = None
    """Seconds for a whole call: its retries, its fallbacks, and the body of its stream."""
    max_connections: int = 1000
    """How many connections the model may hold open."""
    fallbacks: list[str] | None = None
    """Models to ask, in order, when the first fails; streams too, until their first content."""
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    """Sent with every request; kept out of traces and dumps."""
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An httpx or httpx2 Client to use for sync calls. ``close()`` leaves it open."""
    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """An httpx or httpx2 AsyncClient to use for async calls."""
    observers: SkipValidation[Sequence[Observer]] = Field(default=(), exclude=True, repr=False)
    """Objects that may refuse a call (budgets), and are notified of its outcome. See ``lunar_core.Observer``."""
    allow_http: bool = False
    """Whether ``base_url`` may be plain http to another machine."""
    cost_tags: dict[str, str] | None = None
    """What the calls of this model are for, by name: ledgers add costs up by these. Tags of a ``lunar_core.tags`` block
    override them. ``tags=`` with a dict is the same; a list is LangChain's own tags."""

    # Errors do not show the values that were passed: a key may be among them.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    _clients: ClientPair | None = PrivateAttr(default=None)
    """The clients for the current settings; None after a change of these. Shallow copies share them."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        bridge.describe_fields(cls, FIELD_DESCRIPTIONS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except ValidationError as error:
            refused = _refused_setting(error) or error
        else:
            return
        del args, kwargs  # a key may be among them, and no traceback may show it
        raise refused.with_traceback(None) from None

    @model_validator(mode="before")
    @classmethod
    def _translate_names(cls, values: Any) -> Any:
        return as_fields(values, cls.model_fields) if isinstance(values, dict) else values

    @field_validator("api_key", "jwt", mode="before")
    @classmethod
    def _hide_secrets(cls, value: object) -> object:
        return SecretStr(value) if isinstance(value, str) else value

    @field_validator("timeout", mode="before")
    @classmethod
    def _timeout_as_numbers(cls, value: object) -> object:
        if value is None or isinstance(value, (int, float)):
            return value
        steps = checked_timeout(tuple(value) if isinstance(value, list) else value)
        return steps.connect, steps.read, steps.write, steps.pool

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        self._clients = self._new_clients()
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Call this of langchain-core's base classes too: of several, pydantic calls only the first."""
        super().model_post_init(context)

    @property
    def model_name(self) -> str:
        """``model``, under the name that some of LangChain's classes use."""
        return self.model

    @model_name.setter
    def model_name(self, name: str) -> None:
        self.model = name

    # Clients -----------------------------------------------------------------------------------

    @property
    def clients(self) -> ClientPair:
        """The core's clients behind this model, for endpoints that LangChain has no method for.

        >>> llm.clients.sync.models.list()  # doctest: +SKIP
        """
        if self._clients is None:
            self._clients = self._new_clients()
        return self._clients

    def _new_clients(self) -> ClientPair:
        """Clients for the current fields. They open nothing yet."""
        fields = {name: self.__dict__[name] for name in SETTING_NAMES}
        if fields["jwt"] is not None and "api_key" not in self.model_fields_set:
            fields["api_key"] = None  # a token that was passed overrides a key of the environment
        return ClientPair(
            Settings.resolve(**fields, tags=self.cost_tags),
            checked_observers(self.observers),
            self.http_client,
            self.http_async_client,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        forget_serialized(self)
        if name in _CLIENT_FIELDS:
            self._clients = None

    def close(self) -> None:
        """Close the connections of sync calls; later calls fail. Shallow copies share them."""
        self.clients.close()

    async def aclose(self) -> None:
        """Close the connections of async calls; later calls fail. Shallow copies share them."""
        await self.clients.aclose()

    # Copies ------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        twin = super().__copy__()
        forget_serialized(twin)  # model_copy(update=…) changes the twin next
        return twin

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As in pydantic. Fields in ``update`` may have their alternative names too (``model_name``)."""
        named = {as_field(name): value for name, value in (update or {}).items()}
        twin = super().model_copy(update=named, deep=deep)
        if named.keys() & _CLIENT_FIELDS:
            twin._clients = None
        return twin

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo |= {id(kept): kept for name in _NOT_COPIED if (kept := self.__dict__.get(name))}
        return super(LunarConnection, self.__copy__()).__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        apart = self.__copy__()
        apart._clients = None
        apart.__dict__.update(http_client=None, http_async_client=None)
        if "api_key" not in self.model_fields_set:
            apart.__dict__["api_key"] = None
        return super(LunarConnection, apart).__getstate__()

    # LangChain's serialization -----------------------------------------------------------------

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: ``dumpd`` and ``load`` carry everything but keys, headers and clients."""
        return True

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """As in langchain-core. The dump may then be loaded with ``allowed_objects="all"`` too."""
        allow_loading(type(self))
        return without_functions_in(super().to_json())

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variables from which a loaded model takes its key."""
        return {"api_key": "LUNAR_API_KEY", "jwt": "LUNAR_JWT"}

    def configurable_fields(self, **fields: AnyConfigurableField) -> RunnableSerializable[Any, Any]:
        """As in langchain-core. Fields may have their alternative names too (``model_name``)."""
        named = {as_field(name): field for name, field in fields.items()}
        # Of the Runnable that each model inherits from beside this class.
        return cast("RunnableSerializable[Any, Any]", super()).configurable_fields(**named)


def check_parameters(model_kwargs: Mapping[str, Any], extra_body: Mapping[str, Any] | None) -> None:
    """Raise ConfigurationError for a field that a model cannot send with each of its calls, or for its value."""
    bridge.check_keywords(model_kwargs, "model_kwargs")
    bridge.check_keywords({"extra_body": extra_body})
    if "model" in model_kwargs:
        raise ConfigurationError("model_kwargs: model: is a field of its own")
    # A class, as ``response_format`` may be, becomes the schema that is sent.
    check_values({name: v for name, v in model_kwargs.items() if not isinstance(v, type)})


def _refused_setting(error: ValidationError) -> ConfigurationError | None:
    """The core's own ConfigurationError, which pydantic wraps like any ValueError."""
    for fault in error.errors(include_input=False, include_url=False):
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            return cause
    return None
