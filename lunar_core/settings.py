"""The settings of a client: argument, else environment, else default. Resolved once, at construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from lunar_core.base_url import resolve_base_url
from lunar_core.checks import (
    Limits,
    Timeout,
    checked_count,
    checked_fallbacks,
    checked_headers,
    checked_limits,
    checked_seconds,
    checked_tags,
    checked_timeout,
)
from lunar_core.credentials import Credential, Secret, hide_secret
from lunar_core.errors import ConfigurationError, describe_unexpected

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


@dataclass(frozen=True)
class Settings:
    """All settings of a client, checked. Immutable, picklable, and safe to print."""

    base_url: str
    credential: Credential
    timeout: Timeout = field(default_factory=Timeout)
    max_retries: int = 2
    total_timeout: float | None = None
    max_connections: int = 1000
    fallbacks: tuple[str, ...] = ()
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)
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
        api_key, jwt = hide_secret(api_key), hide_secret(jwt)
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

    def with_changes(self, options: Mapping[str, Any]) -> Settings:
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
