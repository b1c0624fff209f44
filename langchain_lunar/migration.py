"""Names of other packages' models, so that swapping the class is all that a migration takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

_FIELDS = {
    "headers": "default_headers",
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "openai_api_base": "base_url",
    "openai_api_key": "api_key",
    "request_timeout": "timeout",
    "stop_sequences": "stop",
}
"""What others call it → the field that it is here."""

_PARAMETERS = _FIELDS | {"headers": "extra_headers"}
"""The same for the keywords of a single call."""

_WITHOUT_MEANING = frozenset(
    {
        "context_management",
        "default_query",
        "disabled_params",
        "environment",
        "http_socket_options",
        "include",
        "include_response_headers",
        "openai_organization",
        "openai_proxy",
        "organization",
        "root_async_client",
        "root_client",
        "stream_chunk_timeout",
        "tiktoken_model_name",
        "truncation",
        "use_previous_response_id",
        "use_responses_api",
    }
)
"""Settings that concern OpenAI's own service and client, or the vendor's."""

_CALLER = 6
"""Frames from here to whoever made the model: two of ours, pydantic's and langchain-core's ``__init__``, ours."""


def as_fields(given: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The keywords of a constructor under the names of ``fields``.

    What no model of Lunar's can use is dropped, what nobody knows goes to ``model_kwargs``; both with a warning.
    """
    found: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in given.items():
        name = key if key in fields else as_field(key)
        if name in fields:
            found[name] = value
        elif key not in _WITHOUT_MEANING:
            unknown[key] = value
        elif value is not None:
            warnings.warn(f"{key} has no meaning for Lunar: dropped", stacklevel=_CALLER)
    if unknown:
        warnings.warn(
            f"{', '.join(unknown)}: not a parameter of this model. Put into model_kwargs, "
            "so that it is sent with every request as it is",
            stacklevel=_CALLER,
        )
        found["model_kwargs"] = {**(found.get("model_kwargs") or {}), **unknown}
    return found


def as_parameter(name: str) -> str:
    """The keyword of a single call under the name that the core knows."""
    return _PARAMETERS.get(name, name)


def as_field(name: str) -> str:
    """The field behind another name of it."""
    return _FIELDS.get(name, name)
