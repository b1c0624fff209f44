"""What ``ChatLunar`` and ``LunarLLM`` share: the settings of the connection, and clients made when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Union

from langchain_core.load.serializable import Serializable
from langchain_core.utils import from_env, secret_from_env
from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from langchain_lunar.migration import translated
from lunar_core.errors import ConfigurationError
from lunar_core.settings import Settings, Timeout, checked_timeout

if TYPE_CHECKING:
    from lunar_core import AsyncLunar, Lunar

Secret = Union[SecretStr, Callable[[], str], None]

_making = threading.Lock()
"""Held while a client is made, which takes microseconds: no model ever has two of a kind."""

_CLIENT_FIELDS = (
    "api_key",
    "jwt",
    "base_url",
    "timeout",
    "max_retries",
    "total_timeout",
    "max_connections",
    "fallbacks",
    "default_headers",
    "observers",
    "allow_http",
)


class LunarConnection(Serializable):
    """How to reach the service. Each setting: argument, else environment, else the core's default."""

    api_key: Secret = Field(default_factory=secret_from_env("LUNAR_API_KEY", default=None))
    """The API key, or a function that returns one and is asked for each request. Else LUNAR_API_KEY."""
    jwt: Secret = None
    """A token instead of a key, or a function that returns one. Else LUNAR_JWT."""
    base_url: str | None = Field(default_factory=from_env("LUNAR_BASE_URL", default=None))
    """The service. Else LUNAR_BASE_URL, else the hosted one. http is for loopback, or with ``allow_http``."""
    timeout: Union[float, tuple[float | None, ...], None] = None
    """Seconds; ``(connect, read)``; or ``lunar_core.Timeout`` or httpx's own. 5 to connect, 600 to read by default."""
    max_retries: int = 2
    """Requests after the first, for each model. 0: one request, ever."""
    total_timeout: float | None = None
    """Seconds for a whole call: its retries, its fallbacks and the body of its stream."""
    max_connections: int = 1000
    fallbacks: list[str] | None = None
    """Models to ask, in order, when the first fails; streams too, until their first content."""
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    """Sent with every request, and kept out of every trace and dump."""
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An httpx or httpx2 Client of your own. ``close()`` leaves it open."""
    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """The same for async calls."""
    observers: Sequence[Any] = Field(default=(), exclude=True, repr=False)
    """``lunar_core.Observer`` objects: told of each call, and may refuse it."""
    allow_http: bool = False
    """Whether ``base_url`` may be plain http beyond this machine."""

    # An error must not show what was passed: a key may be among it.
    model_config = ConfigDict(populate_by_name=True, hide_input_in_errors=True)

    _sync: tuple[object, Lunar] | None = PrivateAttr(default=None)
    _async: tuple[object, AsyncLunar] | None = PrivateAttr(default=None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except ValidationError as error:
            for fault in error.errors(include_input=False):
                cause = fault.get("ctx", {}).get("error")
                if isinstance(cause, ConfigurationError):
                    raise cause from None
            raise

    @model_validator(mode="before")
    @classmethod
    def _translate_names(cls, values: Any) -> Any:
        return translated(values, cls.model_fields) if isinstance(values, dict) else values

    @field_validator("timeout", mode="before")
    @classmethod
    def _timeout_as_numbers(cls, value: object) -> object:
        if value is None or isinstance(value, (int, float)):
            return value
        steps = checked_timeout(tuple(value) if isinstance(value, list) else value)
        return steps.connect, steps.read, steps.write, steps.pool

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        Settings.resolve(**self._settings())
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Let the classes beside this one start too: pydantic calls only the first in line."""
        super().model_post_init(context)

    def _settings(self) -> dict[str, Any]:
        values = self.__dict__
        given = {name: values[name] for name in _CLIENT_FIELDS if name != "observers"}
        if given["jwt"] is not None and "api_key" not in self.model_fields_set:
            given["api_key"] = (
                None  # the environment's key steps back behind a token that was given
            )
        return given

    def _client(self) -> Lunar:
        """The client of this model's settings, made at the first use."""
        key = [self.__dict__[name] for name in (*_CLIENT_FIELDS, "http_client")]
        made = self._sync
        if made is None or made[0] != key:
            from lunar_core import Lunar

            with _making:
                made = self._sync
                if made is None or made[0] != key:
                    client = Lunar(
                        **self._settings(), observers=self.observers, http_client=self.http_client
                    )
                    made = self._sync = (key, client)
        return made[1]

    def _async_client(self) -> AsyncLunar:
        key = [self.__dict__[name] for name in (*_CLIENT_FIELDS, "http_async_client")]
        made = self._async
        if made is None or made[0] != key:
            from lunar_core import AsyncLunar

            with _making:
                made = self._async
                if made is None or made[0] != key:
                    client = AsyncLunar(
                        **self._settings(),
                        observers=self.observers,
                        http_client=self.http_async_client,
                    )
                    made = self._async = (key, client)
        return made[1]

    def close(self) -> None:
        """Close the connections of sync calls. Later ones are refused."""
        if self._sync is not None:
            self._sync[1].close()

    async def aclose(self) -> None:
        """Close the connections of async calls. Later ones are refused."""
        if self._async is not None:
            await self._async[1].aclose()
