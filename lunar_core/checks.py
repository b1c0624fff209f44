"""Checks of the values that settings and options may have. Each raises a ConfigurationError that names the field.

``Timeout`` and ``Limits`` are the two values with parts of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lunar_core.errors import ConfigurationError, describe_unexpected

MIB = 1024 * 1024

MOST_SECONDS = 2_000_000


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
                f"{name}: the value of {key} is no text that a header may carry (it has a line break, say)"
            )
        headers[key] = text.strip(" \t")  # by HTTP, these are no part of the value
    return headers
