"""Names of other packages' chat models, so that swapping the class is all that a migration takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

ALIASES: dict[str, str] = {
    "headers": "default_headers",
    "lunar_api_base": "base_url",
    "lunar_api_key": "api_key",
    "max_completion_tokens": "max_tokens",
    "model": "model_name",
    "openai_api_base": "base_url",
    "openai_api_key": "api_key",
    "request_timeout": "timeout",
    "stop_sequences": "stop",
}
"""What others call it → what it is called here."""

WITHOUT_MEANING = frozenset(
    {
        "context_management",
        "default_query",
        "disabled_params",
        "http_socket_options",
        "include",
        "include_response_headers",
        "openai_organization",
        "openai_proxy",
        "organization",
        "output_version_openai",
        "stream_chunk_timeout",
        "tiktoken_model_name",
        "truncation",
        "use_previous_response_id",
        "use_responses_api",
    }
)
"""Settings of ``ChatOpenAI`` that concern OpenAI's own service or client."""


def translated(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The keywords of a constructor under the names of ``fields``; what is unknown goes to ``model_kwargs``, with a warning."""
    found: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for given, value in values.items():
        name = given if given in fields else ALIASES.get(given, given)
        if name in fields:
            found[name] = value
        elif name in WITHOUT_MEANING:
            warnings.warn(f"{given} has no meaning for Lunar and was dropped", stacklevel=6)
        else:
            unknown[given] = value
    if unknown:
        warnings.warn(
            f"{', '.join(map(repr, unknown))}: no parameter of this model; put into model_kwargs, "
            "that is, sent with every request as it is",
            stacklevel=6,
        )
        found["model_kwargs"] = {**(found.get("model_kwargs") or {}), **unknown}
    return found
