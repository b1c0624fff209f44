"""The names of a budget: its own, its tag's, and the keys that it counts by."""

from __future__ import annotations

from lunar_core.errors import ConfigurationError


def checked_name(value: object, name: str) -> str:
    """``value``, if it is a word. Raises ConfigurationError."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"{name}: expected a word, such as 'tenant'")
    return value


def checked_key(key: object, budget: str, per: str | None) -> str | None:
    """``key`` as the tags of calls have it: as text. Raises ConfigurationError for a budget without ``per``."""
    if key is None:
        return None
    if per is None:
        raise ConfigurationError(
            f"key: budget {budget!r} has no per=, and counts all calls together"
        )
    return str(key)
