"""The capabilities of models, as LangChain's agents and middleware ask for them: ``ChatLunar(...).profile``.

From the makers' public documentation, for the models of ``GET /v1/router/profiles`` and common others. A claim that is
wrong for some version of a model is left out: absent means unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from typing import Any, cast

from langchain_core.language_models.model_profile import ModelProfile

from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.model_facts import ROUTED, context_window

_TEXT: dict[str, Any] = {
    "text_inputs": True,
    "text_outputs": True,
    "image_inputs": False,
    "audio_inputs": False,
    "image_outputs": False,
    "audio_outputs": False,
    "reasoning_output": False,
    "tool_calling": True,
    "tool_choice": True,
    "tool_call_streaming": True,
    "structured_output": False,
    "temperature": True,
}
_SCHEMA = _TEXT | {"structured_output": True}
_IMAGES = {"image_inputs": True, "image_url_inputs": True}
_VISION = _SCHEMA | _IMAGES
_DOCUMENTS = _VISION | {"pdf_inputs": True, "attachment": True}
_THINKING = {"reasoning_output": True, "temperature": False}

_PROFILES: dict[str, dict[str, Any]] = {
    "gpt-3.5-turbo": _TEXT | {"max_output_tokens": 4_096},
    "gpt-4": _TEXT | {"max_output_tokens": 8_192},
    "gpt-4-turbo": _TEXT | _IMAGES | {"max_output_tokens": 4_096},
    "gpt-4o": _DOCUMENTS | {"max_output_tokens": 16_384},
    "gpt-4o-mini": _DOCUMENTS | {"max_output_tokens": 16_384},
    "gpt-4.1": _DOCUMENTS | {"max_output_tokens": 32_768},
    "gpt-4.1-mini": _DOCUMENTS | {"max_output_tokens": 32_768},
    "gpt-4.1-nano": _DOCUMENTS | {"max_output_tokens": 32_768},
    "gpt-5": _DOCUMENTS | _THINKING | {"max_output_tokens": 128_000},
    "o1": _DOCUMENTS | _THINKING | {"max_output_tokens": 100_000},
    "o3": _DOCUMENTS | _THINKING | {"max_output_tokens": 100_000},
    "o3-mini": _SCHEMA | _THINKING | {"max_output_tokens": 100_000},
    "o4-mini": _DOCUMENTS | _THINKING | {"max_output_tokens": 100_000},
    "claude-3-haiku": _TEXT | _IMAGES | {"max_output_tokens": 4_096},
    "claude-3-opus": _TEXT | _IMAGES | {"max_output_tokens": 4_096},
    "claude-3-5": _TEXT | _IMAGES | {"max_output_tokens": 8_192},
    "claude-3-7-sonnet": _TEXT | _IMAGES | {"max_output_tokens": 64_000},
    "claude-opus-4": _TEXT | _IMAGES | {"max_output_tokens": 32_000},
    "claude-sonnet-4": _TEXT | _IMAGES | {"max_output_tokens": 64_000},
    "claude-haiku-4": _TEXT | _IMAGES | {"max_output_tokens": 64_000},
    "gemini-1.5-flash": _VISION | {"max_output_tokens": 8_192},
    "gemini-1.5-pro": _VISION | {"max_output_tokens": 8_192},
    "gemini-2.0-flash": _VISION | {"max_output_tokens": 8_192},
    "gemini-2.5": _VISION | {"max_output_tokens": 65_536, "reasoning_output": True},
    "mistral-large": _SCHEMA,
    "mistral-medium": _VISION,
    "mistral-small": _SCHEMA,
    "deepseek-chat": _TEXT | {"max_output_tokens": 8_192},
    "deepseek-reasoner": _TEXT | _THINKING,
}


KEYS = frozenset({"name", "max_input_tokens"}).union(*_PROFILES.values())
"""Every key that a profile of this table can have."""


def profile_of(model: str, candidates: Sequence[str] | None = None) -> ModelProfile | None:
    """The profile of ``model``, by its plain name, as ``provider/model``, or with a version. None if unknown.

    For "router": what all ``candidates`` can do, since any of them may answer.
    """
    if model == ROUTER:
        profiles = [_profile(name) for name in candidates or ROUTED]
        common = (
            None if None in profiles else reduce(_common, cast("list[dict[str, Any]]", profiles))
        )
    else:
        common = _profile(model)
    return None if common is None else cast("ModelProfile", dict(common))


@cache
def _profile(model: str) -> dict[str, Any] | None:
    name = model.rsplit("/", 1)[-1].lower()
    names = [key for key in _PROFILES if name == key or name.startswith((f"{key}-", f"{key}:"))]
    if not names:
        return None
    window = context_window(name)
    size = {} if window is None else {"max_input_tokens": window}
    return {"name": name, **size, **_PROFILES[max(names, key=len)]}


def _common(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The claims that hold for both: what both can do, and the lower limits."""
    return {
        key: min(one[key], other[key]) if key != "name" else ROUTER for key in one if key in other
    }
