"""Turns the constructor's arguments into the fields of a LunarLLM. Takes those of OpenAILike too."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from llama_index_lunar.requests import merge_kwargs
from lunar_core import bridge
from lunar_core.errors import ConfigurationError, describe_unexpected
from lunar_core.wire.api_requests import check_values

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


def make_fields(arguments: Mapping[str, Any], llm_class: type[BaseModel]) -> JSONObject:
    """The fields of an LLM of ``llm_class``, made of its constructor's arguments.

    Raises ConfigurationError for an argument that is no field, and for a value that cannot work.
    """
    fields = dict(arguments)
    if "max_new_tokens" in fields:  # OpenAILike's other name
        fields["max_tokens"] = fields.pop("max_new_tokens")
    additional = fields["additional_kwargs"] or {}
    if not isinstance(additional, Mapping):
        raise ConfigurationError(
            f"additional_kwargs: expected a dict{describe_unexpected(additional)}"
        )
    if extra_body := fields.pop("extra_body"):
        additional = merge_kwargs(additional, {"extra_body": extra_body})
    additional, headers = _split_headers(additional, fields["default_headers"])
    fields |= {"additional_kwargs": additional, "default_headers": headers}
    if isinstance(fields["stop"], str):
        fields["stop"] = [fields["stop"]]
    if isinstance(fields["timeout"], list):
        fields["timeout"] = tuple(fields["timeout"])
    fields = _drop_meaningless(fields)
    _check_names(fields, llm_class)
    bridge.check_keywords(additional, "additional_kwargs")
    check_values({**fields, **additional})
    return fields


def _split_headers(
    additional_kwargs: Mapping[str, Any], default_headers: Mapping[str, str] | None
) -> tuple[JSONObject, dict[str, str] | None]:
    """Split the headers off ``additional_kwargs``: headers may hold secrets, and are never shown."""
    additional = dict(additional_kwargs)
    headers = {**(default_headers or {}), **(additional.pop("extra_headers", None) or {})}
    _warn_of("additional_kwargs['extra_query']", additional.pop("extra_query", None))
    return additional, headers or None


def _drop_meaningless(arguments: JSONObject) -> JSONObject:
    """``arguments`` without those that mean nothing for Lunar. Warns about each one that has a value."""
    for name in _WITHOUT_MEANING:
        _warn_of(name, arguments.get(name))
    return {name: value for name, value in arguments.items() if name not in _WITHOUT_MEANING}


def _check_names(arguments: Iterable[str], llm_class: type[BaseModel]) -> None:
    unknown = sorted(set(arguments) - set(llm_class.model_fields))
    if unknown:
        raise ConfigurationError(
            f"{llm_class.__name__}: unknown argument {', '.join(unknown)}. "
            "Fields of the API that have no argument go into additional_kwargs={...}"
        )


def refused_field(error: ValidationError) -> ConfigurationError:
    """A ConfigurationError for pydantic's error. It names the field and shows no value, which may be a key."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(map(str, fault["loc"]))
    return ConfigurationError(f"{field}: {fault['msg']}")


def _warn_of(name: str, value: object) -> None:
    if value is not None:
        # 5: this function, its caller, make_fields, the constructor, the caller's own line.
        warnings.warn(f"{name} has no meaning for Lunar: dropped", stacklevel=5)
