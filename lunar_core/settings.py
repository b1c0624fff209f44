"""The settings of a client: argument, else environment, else default. Read once, at construction."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from lunar_core.base_url import resolve_base_url
from lunar_core.errors import ConfigurationError, describe_unexpected

MIB = 1024 * 1024
MOST_SECONDS = 2_000_000

SETTING_NAMES = (
    "api_key",
    "jwt",
    "base_url",
    "timeout",
    "max_retries",
    "total_timeout",
    "max_connections",
    "fallbacks",
    "default_headers",
    "allow_http",
)
"""The settings that models of both frameworks have too. If one changes, the model needs new clients."""

T = TypeVar("T")

Secret = str | SecretStr | Callable[[], str]
"""A key or token, or a function that returns one and is called for each request."""


@dataclass(frozen=True)
class Timeout:
    """Seconds to wait for each step of a request; None waits for ever.

    ``read`` is long on purpose: an answer is billed even if nobody waits for it.

    >>> client = Lunar(timeout=Timeout(connect=2, read=120))
    """

    connect: float | None = 5.0
    read: float | None = 600.0
    write: float | None = 600.0
    pool: float | None = 600.0


@dataclass(frozen=True)
class Limits:
    """The most bytes of a body, of an error's body and of a stream's event, counted after decompression.

    >>> client = Lunar(limits=Limits(body=1_000_000))
    """

    body: int = 32 * MIB
    error_body: int = 64 * 1024
    event: int = 16 * MIB


@dataclass(frozen=True)
class Credential:
    """The key or token, and where it came from.

    A pickle carries the value only if it was passed explicitly. A value from the environment or
    from a function is read again when the pickle is loaded.
    """

    kind: Literal["api_key", "jwt"]
    source: SecretStr | Callable[[], str] | None = field(repr=False)
    """The secret itself, a function that returns it, or None: the environment variable has it."""
    from_environment: SecretStr | None = field(default=None, repr=False, compare=False)

    @property
    def variable(self) -> str:
        return "LUNAR_API_KEY" if self.kind == "api_key" else "LUNAR_JWT"

    def header(self, secret: SecretStr) -> tuple[str, str]:
        """The name and value of the header with ``secret``. No local variable holds the value, so no traceback does."""
        if self.kind == "api_key":
            return "x-api-key", secret.get_secret_value()
        return "Authorization", f"Bearer {secret.get_secret_value()}"

    def secret(self) -> SecretStr:
        """The secret to send now. A function is called each time."""
        if isinstance(self.source, SecretStr):
            return self.source
        if self.source is not None:
            return _answer_of(self.source, self.kind)
        if self.from_environment is not None:
            return self.from_environment
        return _checked_secret(hidden(os.environ.get(self.variable, "")), self.variable)

    def __getstate__(self) -> dict[str, object]:
        return {"kind": self.kind, "source": self.source, "from_environment": None}

    @classmethod
    def resolve(cls, api_key: Secret | None, jwt: Secret | None) -> Credential:
        if api_key is not None and jwt is not None:
            raise ConfigurationError("api_key and jwt: give one of the two, not both")
        if api_key is not None:
            return cls("api_key", _secret_source(api_key, "api_key"))
        if jwt is not None:
            return cls("jwt", _secret_source(jwt, "jwt"))
        for kind in ("api_key", "jwt"):
            credential = cls(kind, None)
            if os.environ.get(credential.variable, "").strip():
                secret = hidden(os.environ[credential.variable])
                return cls(kind, None, _checked_secret(secret, credential.variable))
        blank = "; LUNAR_API_KEY is there, but empty" if "LUNAR_API_KEY" in os.environ else ""
        raise ConfigurationError(
            f"api_key: none was given{blank}. Set LUNAR_API_KEY (or LUNAR_JWT), or pass api_key= (or jwt=) in a "
            "program. To try things without a key, start the sandbox: python -m lunar_core.sandbox"
        )


def hide_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A client's keywords with key and token as SecretStr, so that no traceback shows them."""
    return {
        name: hidden(value) if name in ("api_key", "jwt") else value
        for name, value in settings.items()
    }


def hidden(secret: T) -> T | SecretStr:
    """``secret`` as a SecretStr. Called first of all, so that no later frame of a traceback shows it."""
    return SecretStr(secret) if isinstance(secret, str) else secret


def without_secret(text: str, secret: SecretStr) -> str:
    """``text`` with ``secret`` redacted. One of less than eight characters might be a common word, and stays."""
    return text if len(secret) < 8 else text.replace(secret.get_secret_value(), "[redacted]")


def _secret_source(secret: Secret, name: str) -> SecretStr | Callable[[], str]:
    secret = hidden(secret)
    if callable(secret) and not isinstance(secret, SecretStr):
        return secret
    return _checked_secret(secret, name)


def _answer_of(source: Callable[[], str], name: str) -> SecretStr:
    try:
        answer = hidden(source())
    except Exception as error:  # noqa: BLE001  # the caller's function: its error's text may hold the secret
        failure = type(error).__name__
    else:
        return _checked_secret(answer, name)
    raise ConfigurationError(f"{name}: the function that returns it raised {failure}")


def _checked_secret(secret: object, name: str) -> SecretStr:
    if not isinstance(secret, SecretStr):
        raise ConfigurationError(f"{name}: expected a string, or a function that returns one")
    fault = _secret_fault(secret.get_secret_value().strip())
    if fault:
        raise ConfigurationError(f"{name}: {fault}")
    return SecretStr(secret.get_secret_value().strip())


_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb"


def _secret_fault(text: str) -> str | None:
    # Returns instead of raising: a traceback would show ``text``.
    if not text:
        return "is empty; give your key, or leave it out to have that of the environment"
    if text[0] in _QUOTES and text[-1] in _QUOTES:
        return "is in quotes; give it without them"
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "begins or ends with a quotation mark; give it without"
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        return "has a character that no HTTP header may carry (a space, a line break, or one outside ASCII)"
    return None


@dataclass(frozen=True)
class Settings:
    """All settings of a client, checked. Immutable, picklable, and safe to print."""

    base_url: str
    credential: Credential
    timeout: Timeout = Timeout()
    max_retries: int = 2
    total_timeout: float | None = None
    max_connections: int = 1000
    fallbacks: tuple[str, ...] = ()
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def resolve(
        cls,
        *,
        api_key: Secret | None = None,
        jwt: Secret | None = None,
        base_url: str | None = None,
        timeout: object = None,
        max_retries: int = 2,
        total_timeout: float | None = None,
        max_connections: int = 1000,
        fallbacks: Sequence[str] | None = None,
        default_headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        allow_http: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Settings:
        """Check and complete a client's settings. Raises ConfigurationError that names the first wrong one."""
        api_key, jwt = hidden(api_key), hidden(jwt)
        if not isinstance(allow_http, bool):
            raise ConfigurationError(
                f"allow_http: expected True or False{describe_unexpected(allow_http)}"
            )
        return cls(
            base_url=resolve_base_url(base_url, allow_http=allow_http),
            credential=Credential.resolve(api_key, jwt),
            timeout=checked_timeout(timeout),
            max_retries=checked_count(max_retries, "max_retries"),
            total_timeout=checked_seconds(total_timeout, "total_timeout"),
            max_connections=checked_count(max_connections, "max_connections", least=1),
            fallbacks=checked_fallbacks(fallbacks),
            default_headers=checked_headers(default_headers, "default_headers"),
            limits=checked_limits(limits),
            tags=checked_tags(tags),
        )

    def replaced(self, options: Mapping[str, Any]) -> Settings:
        """These settings with some changed. Raises ConfigurationError that names one that is wrong or cannot change."""
        for name in options:
            if name in _OF_CONNECTIONS:
                raise ConfigurationError(
                    f"{name}: belongs to the connections, which with_options shares; make a client of its own for that"
                )
            if name not in _REPLACEABLE and name not in ("api_key", "jwt"):
                close = get_close_matches(name, [*_REPLACEABLE, "api_key", "jwt"], 1)
                hint = f"; perhaps {close[0]}?" if close else ""
                raise ConfigurationError(f"{name}: no setting of a client{hint}")
        changes = {
            name: check(options[name]) for name, check in _REPLACEABLE.items() if name in options
        }
        api_key, jwt = options.get("api_key"), options.get("jwt")
        if api_key is not None or jwt is not None:
            changes["credential"] = Credential.resolve(api_key, jwt)
        return replace(self, **changes)


_OF_CONNECTIONS = {"base_url", "allow_http", "max_connections", "http_client"}


def checked_seconds(value: object, name: str) -> float | None:
    """``value``, if it is None or a number of seconds that a socket can take. Raises ConfigurationError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{name}: expected a number of seconds or None{describe_unexpected(value)}"
        )
    if not 0 < value <= MOST_SECONDS:
        raise ConfigurationError(
            f"{name}: must be more than 0 and at most {MOST_SECONDS:,} seconds{describe_unexpected(value)}; "
            "None waits for ever"
        )
    return float(value)


_STEPS = ("connect", "read", "write", "pool")


def checked_timeout(value: object) -> Timeout:
    """A Timeout from seconds, a tuple ``(connect, read)``, a Timeout or an httpx.Timeout. Raises ConfigurationError."""
    if value is None:
        return Timeout()
    if isinstance(value, (int, float)):
        seconds = checked_seconds(value, "timeout")
        return Timeout(seconds, seconds, seconds, seconds)
    if isinstance(value, tuple):
        if len(value) not in (2, 4):
            raise ConfigurationError(
                "timeout: a tuple is (connect, read) or (connect, read, write, pool)"
            )
        steps = tuple(checked_seconds(step, "timeout") for step in value)
        return Timeout(steps[0], steps[1], steps[-2] if len(steps) == 4 else steps[1], steps[-1])
    if all(hasattr(value, step) for step in _STEPS):
        return Timeout(
            *(checked_seconds(getattr(value, step), f"timeout.{step}") for step in _STEPS)
        )
    raise ConfigurationError(
        f"timeout: expected seconds, (connect, read), lunar_core.Timeout or httpx.Timeout{describe_unexpected(value)}"
    )


def checked_count(value: object, name: str, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            f"{name}: expected a whole number, {least} or more{describe_unexpected(value)}"
        )
    return value


def checked_tags(value: object) -> dict[str, str]:
    """The tags of a client, from a dict of names and values, or None. Raises ConfigurationError."""
    value = {} if value is None else value
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError('tags: expected a dict such as {"team": "search"}')
    return {name: str(text) for name, text in value.items()}


def checked_limits(value: object) -> Limits:
    if value is None:
        return Limits()
    if not isinstance(value, Limits):
        raise ConfigurationError(f"limits: expected lunar_core.Limits{describe_unexpected(value)}")
    for name, bound in vars(value).items():
        checked_count(bound, f"limits.{name}", least=1)
    return value


def checked_fallbacks(value: object) -> tuple[str, ...]:
    """The models to try after the first, in order. Raises ConfigurationError."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(m, str) and m.strip() for m in value
    ):
        raise ConfigurationError('fallbacks: expected a list of model names, such as ["gpt-4o"]')
    return tuple(value)


# The client sets these itself: a second copy would leak the key or break the framing.
_RESERVED_HEADERS = {
    "x-api-key",
    "authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
}


def checked_headers(value: object, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name}: expected a dict of strings{describe_unexpected(value)}")
    headers: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key):
            raise ConfigurationError(f"{name}: {key!r} is no header name")
        if key.lower() in _RESERVED_HEADERS:
            raise ConfigurationError(
                f"{name}: {key} is set by the client (api_key= or jwt= for the key)"
            )
        if not isinstance(text, str) or not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", text):
            raise ConfigurationError(
                f"{name}: the value of {key} is no string that a header may carry (without a line break, say)"
            )
        headers[key] = text.strip(" \t")  # by HTTP, these are no part of the value
    return headers


_REPLACEABLE: Mapping[str, Callable[[object], Any]] = {
    "timeout": checked_timeout,
    "max_retries": lambda value: checked_count(value, "max_retries"),
    "total_timeout": lambda value: checked_seconds(value, "total_timeout"),
    "fallbacks": checked_fallbacks,
    "default_headers": lambda value: checked_headers(value, "default_headers"),
    "limits": checked_limits,
    "tags": checked_tags,
}
"""The settings that ``with_options`` may change, each with its check. It handles the key and the observers itself."""
