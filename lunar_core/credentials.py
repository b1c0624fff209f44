"""The key or token of a client, which no traceback, repr or pickle shows unasked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from lunar_core.errors import ConfigurationError

T = TypeVar("T")

Secret = str | SecretStr | Callable[[], str]
"""A key or token, or a function that returns one and is called for each request."""


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
        return _checked_secret(hide_secret(os.environ.get(self.variable, "")), self.variable)

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
                secret = hide_secret(os.environ[credential.variable])
                return cls(kind, None, _checked_secret(secret, credential.variable))
        blank = "; LUNAR_API_KEY is there, but empty" if "LUNAR_API_KEY" in os.environ else ""
        raise ConfigurationError(
            f"api_key: none was given{blank}. Set LUNAR_API_KEY (or LUNAR_JWT), or pass api_key= (or jwt=) in a "
            "program. To try things without a key, start the sandbox: python -m lunar_core.sandbox"
        )


def hide_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A client's keywords with key and token as SecretStr, so that no traceback shows them."""
    return {
        name: hide_secret(value) if name in ("api_key", "jwt") else value
        for name, value in settings.items()
    }


def hide_secret(secret: T) -> T | SecretStr:
    """``secret`` as a SecretStr. Called first of all, so that no later frame of a traceback shows it."""
    return SecretStr(secret) if isinstance(secret, str) else secret


def without_secret(text: str, secret: SecretStr) -> str:
    """``text`` with ``secret`` redacted. One of less than eight characters might be a common word, and stays."""
    return text if len(secret) < 8 else text.replace(secret.get_secret_value(), "[redacted]")


def _secret_source(secret: Secret, name: str) -> SecretStr | Callable[[], str]:
    secret = hide_secret(secret)
    if callable(secret) and not isinstance(secret, SecretStr):
        return secret
    return _checked_secret(secret, name)


def _answer_of(source: Callable[[], str], name: str) -> SecretStr:
    try:
        answer = hide_secret(source())
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
