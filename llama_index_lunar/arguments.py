"""Turns the constructor's arguments into the fields of a LunarLLM. Takes those of OpenAILike too."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from lunar_core.errors import ConfigurationError

JSONObject = dict[str, Any]

# Arguments of other classes (OpenAI's, OpenRouter's, the vendor's) that concern their own services.
_WITHOUT_MEANING = (
    "openai_client",
    "async_openai_client",
    "api_type",
    "order",
    "allow_fallbacks",
    "environment",
)


def split_additional(
    additional_kwargs: Mapping[str, Any], default_headers: Mapping[str, str] | None
) -> tuple[JSONObject, dict[str, str] | None]:
    """Split the headers off ``additional_kwargs``: headers may hold secrets, and are never shown."""
    additional = dict(additional_kwargs)
    headers = {**(default_headers or {}), **(additional.pop("extra_headers", None) or {})}
    _warn_of("additional_kwargs['extra_query']", additional.pop("extra_query", None))
    return additional, headers or None


def drop_meaningless(arguments: JSONObject) -> JSONObject:
    """``arguments`` without those that mean nothing for Lunar. Warns about each one that has a value."""
    for name in _WITHOUT_MEANING:
        _warn_of(name, arguments.get(name))
    return {name: value for name, value in arguments.items() if name not in _WITHOUT_MEANING}


def check_names(arguments: Iterable[str], fields: Iterable[str], class_name: str) -> None:
    """Raise ConfigurationError for an argument that is no field."""
    unknown = sorted(set(arguments) - set(fields))
    if unknown:
        raise ConfigurationError(
            f"{class_name}: unknown argument {', '.join(unknown)}. "
            "Fields of the API that have no argument go into additional_kwargs={...}"
        )


def refused_field(error: ValidationError) -> ConfigurationError:
    """A ConfigurationError for pydantic's error. It names the field and shows no value, which may be a key."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(map(str, fault["loc"]))
    return ConfigurationError(f"{field}: {fault['msg']}")


def _warn_of(name: str, value: object) -> None:
    if value is not None:
        # 4: this function, its caller here, the constructor, the caller's own line.
        warnings.warn(f"{name} has no meaning for Lunar: dropped", stacklevel=4)
