"""What can be asked: models, providers, routing profiles. Tolerant of every list shape that was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from lunar_core.wire import answers
from lunar_core.wire.completions import Answer
from lunar_core.wire.usage import Amount


class CatalogueModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)


class ModelPrices(CatalogueModel):
    """USD per million tokens at one provider; None where the service does not say."""

    id: str | None = None
    input_per_million: Amount | None = None
    output_per_million: Amount | None = None
    cache_input_per_million: Amount | None = None


class Model(CatalogueModel):
    """A model of GET /v1/models. Prices, in USD per million tokens, are there only if the service lists them."""

    id: str
    owned_by: str | None = None
    input_per_million: Amount | None = None
    output_per_million: Amount | None = None
    cache_input_per_million: Amount | None = None
    providers: list[ModelPrices] | None = None


class Provider(CatalogueModel):
    """A provider of GET /v1/providers: ``type`` is "primary", "backup" or another word of the service's."""

    id: str
    type: str | None = None
    enabled: bool | None = None
    params: dict[str, object] | None = None


class Profiles(Answer):
    """GET /v1/router/profiles: the models that the router may choose."""

    profiles: list[str]
    count: int | None = None


T = TypeVar("T", bound=BaseModel)


def read_profiles(payload: bytes) -> Profiles:
    profiles = answers.read_as(Profiles, payload)
    if profiles.count is None:
        return profiles.model_copy(update={"count": len(profiles.profiles)})
    return profiles


def _reader(kind: type[T], *names: str) -> Callable[[bytes], list[T]]:
    def read(payload: bytes) -> list[T]:
        data = answers.loads(payload)
        if isinstance(data, dict):
            data = next((data[name] for name in names if isinstance(data.get(name), list)), None)
        if not isinstance(data, list):
            raise ValueError(f"there is no list of {names[0]}")  # noqa: TRY004  # wrong JSON, not a wrong call
        items = [{"id": item} if isinstance(item, str) else item for item in data]
        return [answers.forgiving(kind, item) for item in items]

    return read


read_models = _reader(Model, "models", "data")
read_providers = _reader(Provider, "providers", "data")


ROUTED = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "mistral-large-latest",
    "mistral-small-latest",
)
"""Whom the router chooses among when it is not told: the reference's example of GET /v1/router/profiles."""


# Tokens of prompt and answer together, from the makers' public documentation.
_CONTEXT_WINDOWS = {
    "gpt-4o": 128_000,
    "gpt-4o-mini": 128_000,
    "gpt-4-turbo": 128_000,
    "gpt-4.1": 1_047_576,
    "gpt-4.1-mini": 1_047_576,
    "gpt-4.1-nano": 1_047_576,
    "gpt-4.5": 128_000,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-0125-preview": 128_000,
    "gpt-4-1106-preview": 128_000,
    "gpt-4-vision-preview": 128_000,
    "gpt-3.5-turbo": 16_385,
    "gpt-3.5-turbo-instruct": 4_096,
    "gpt-35-turbo": 16_385,  # as Azure writes it
    "gpt-5": 400_000,
    "gpt-5-chat": 128_000,
    "o1": 200_000,
    "o1-mini": 128_000,
    "o1-preview": 128_000,
    "o3": 200_000,
    "o3-mini": 200_000,
    "o4-mini": 200_000,
    "claude-instant": 100_000,
    "claude-2": 100_000,
    "claude-2.1": 200_000,
    "claude-3-haiku": 200_000,
    "claude-3-opus": 200_000,
    "claude-3-sonnet": 200_000,
    "claude-3-5": 200_000,
    "claude-3.5": 200_000,  # as OpenRouter writes it
    "claude-3-7-sonnet": 200_000,
    "claude-3.7": 200_000,
    "claude-opus-4": 200_000,
    "claude-sonnet-4": 200_000,
    "claude-haiku-4": 200_000,
    "gemini-pro": 32_768,
    "gemini-1.0-pro": 32_768,
    "gemini-1.5-pro": 2_097_152,
    "gemini-1.5-flash": 1_048_576,
    "gemini-2.0-flash": 1_048_576,
    "gemini-2.5": 1_048_576,
    "mistral-small": 32_000,
    "mistral-medium": 128_000,
    "mistral-large": 128_000,
    "mistral-7b": 32_768,
    "mixtral-8x7b": 32_768,
    "mixtral-8x22b": 65_536,
    "open-mistral-7b": 32_768,
    "open-mixtral-8x7b": 32_768,
    "open-mixtral-8x22b": 65_536,
    "gemma-7b": 8_192,
    "gemma-2": 8_192,
    "llama-2": 4_096,
    "llama-3": 8_192,
    "llama-3.1": 131_072,
    "llama-3.2": 131_072,
    "llama-3.3": 131_072,
    "llama3": 8_192,  # as Groq and Ollama write it
    "llama3.1": 131_072,
    "llama3.2": 131_072,
    "llama3.3": 131_072,
    "deepseek-chat": 128_000,
    "deepseek-reasoner": 128_000,
    "command-r": 128_000,
    "qwen2.5": 131_072,
    "grok-2": 131_072,
    "grok-3": 131_072,
    "grok-4": 256_000,
}


def context_window(model: str) -> int | None:
    """How many tokens ``model`` holds, prompt and answer together; None for a model not known here.

    ``provider/model`` names, fine-tuned, dated or suffixed versions are looked up by their longest known beginning.

    >>> context_window("openai/gpt-4o-mini-2024-07-18")
    128000
    """
    name = model.rsplit("/", 1)[-1].lower().removeprefix("ft:").removeprefix("meta-")
    known = [
        key
        for key in _CONTEXT_WINDOWS
        if name == key or name.startswith((key + "-", key + ".", key + ":"))
    ]
    return _CONTEXT_WINDOWS[max(known, key=len)] if known else None
