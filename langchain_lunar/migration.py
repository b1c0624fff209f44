"""The names of other packages' settings, so that a migration only has to replace the class."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from lunar_core.errors import ConfigurationError, describe_unexpected

_BOTH = {
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "request_timeout": "timeout",
    "stop_sequences": "stop",
}

OTHER_NAMES = _BOTH | {
    "api_base": "base_url",
    "extra_headers": "default_headers",
    "headers": "default_headers",
    "openai_api_base": "base_url",
    "openai_api_key": "api_key",
    "openrouter_api_base": "base_url",
    "openrouter_api_key": "api_key",
    "stream": "streaming",
}
"""Another package's name for a field: the field here."""

_PARAMETERS = _BOTH | {"headers": "extra_headers"}
"""The same for the keywords of a single call."""

_PASSED_ON = frozenset(
    {
        "audio",
        "best_of",
        "echo",
        "logit_bias",
        "logprobs",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "response_format",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "suffix",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
    }
)
"""Parameters of OpenAI's endpoints without a field here. They are sent as if given in ``model_kwargs``."""

_WITHOUT_MEANING = frozenset(
    {
        "allowed_special",
        "app_categories",
        "app_title",
        "app_url",
        "async_client",
        "batch_size",
        "client",
        "context_management",
        "default_query",
        "disable_streaming",
        "disabled_params",
        "disallowed_special",
        "environment",
        "http_socket_options",
        "include",
        "include_response_headers",
        "openai_organization",
        "openai_proxy",
        "openrouter_provider",
        "organization",
        "output_version",
        "plugins",
        "profile",
        "rate_limiter",
        "root_async_client",
        "root_client",
        "route",
        "session_id",
        "stream",
        "stream_chunk_timeout",
        "streaming",
        "tiktoken_model_name",
        "trace",
        "truncation",
        "use_previous_response_id",
        "use_responses_api",
    }
)
"""Settings of other services and clients that mean nothing for Lunar; on LunarLLM also those of chat models."""

_CALLER = 6
"""Frames from here to the caller that makes the model.

Two of ours, the ``__init__`` of pydantic and of langchain-core, and ours.
"""


def as_fields(keywords: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The keywords of a constructor under the names of ``fields``.

    A setting that means nothing for Lunar is dropped, an unknown one goes to ``model_kwargs``; both with a warning.
    """
    values: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    unknown: list[str] = []
    for key, value in keywords.items():
        name = key if key in fields else as_field(key)
        if name in fields:
            values[name] = value
        elif key in _WITHOUT_MEANING or key.endswith("_api_key"):  # of another service
            if value is not None:
                warnings.warn(f"{key} has no meaning for Lunar: dropped", stacklevel=_CALLER)
        else:
            parameters[key] = value
            if key not in _PASSED_ON:
                unknown.append(key)
    if unknown:
        listed = ", ".join(name + _nearest(name, (*fields, *_PASSED_ON)) for name in unknown)
        warnings.warn(
            f"{listed}: not a parameter of this model. Put into model_kwargs, "
            "so that it is sent with every request as it is",
            stacklevel=_CALLER,
        )
    # ``tags`` as a dict are the ledger's, as a list LangChain's.
    if isinstance(values.get("tags"), Mapping):
        values["cost_tags"] = values.pop("tags")
    return _with_parameters(values, parameters, has_streaming="streaming" in fields)


def _with_parameters(
    values: dict[str, Any], parameters: Mapping[str, Any], *, has_streaming: bool
) -> dict[str, Any]:
    """``values`` with ``parameters`` in its ``model_kwargs``. ``stream`` becomes the field ``streaming``."""
    extra = values.get("model_kwargs")
    if extra is not None and not isinstance(extra, Mapping):
        raise ConfigurationError(f"model_kwargs: expected a dict{describe_unexpected(extra)}")
    kwargs = {**(extra or {}), **parameters}
    stream = kwargs.pop("stream", None)
    if stream is not None and has_streaming:
        values.setdefault("streaming", stream)
    if kwargs or "model_kwargs" in values:
        values["model_kwargs"] = kwargs
    return values


def _nearest(name: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, names, n=1)
    return f" ({matches[0]}?)" if matches else ""


def as_parameter(name: str) -> str:
    """The core's name for the keyword of a single call."""
    return _PARAMETERS.get(name, name)


def as_field(name: str) -> str:
    """The field that has this alternative name."""
    return OTHER_NAMES.get(name, name)
