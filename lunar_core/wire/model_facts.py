"""Facts about models that the API does not state: the router's models, and the size of context windows."""

from __future__ import annotations

ROUTED = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "mistral-large-latest",
    "mistral-small-latest",
)
"""The models that the router chooses from by default: the reference's example of GET /v1/router/profiles."""


CONTEXT_WINDOWS_DATE = "2026-11-23"
"""When the table below was last reviewed."""

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
    """The context window of ``model``: tokens of prompt and answer together. None for an unknown model.

    Names with a provider, and fine-tuned, dated or suffixed versions, are looked up by their longest known prefix.

    >>> context_window("openai/gpt-4o-mini-2024-07-18")
    128000
    """
    name = model.rsplit("/", 1)[-1].lower().removeprefix("ft:").removeprefix("meta-")
    names = [
        key
        for key in _CONTEXT_WINDOWS
        if name == key or name.startswith((key + "-", key + ".", key + ":"))
    ]
    return _CONTEXT_WINDOWS[max(names, key=len)] if names else None
