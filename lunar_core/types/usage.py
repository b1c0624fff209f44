"""Tokens, cost and latency, as the service reports them in every completion."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true is no number")  # noqa: TRY004  # pydantic makes a ValidationError of a ValueError, and of no TypeError
    return value


Count = Annotated[int, Field(ge=0), BeforeValidator(_no_truth)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_truth)]


_CACHED_TOKENS = ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")
"""The names of Anthropic, DeepSeek and Kimi for cached tokens, beside the other counts."""


class UsageModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class PromptTokensDetails(UsageModel):
    """The parts of ``prompt_tokens``, if the provider states them."""

    cached_tokens: Count | None = None
    audio_tokens: Count | None = None


class CompletionTokensDetails(UsageModel):
    """The parts of ``completion_tokens``, if the provider states them."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class Usage(UsageModel):
    """``usage`` of the API: token counts, billed cost in USD, latency in milliseconds.

    A value that the service did not state is None, never 0.

    >>> Usage(prompt_tokens=12, completion_tokens=8, total_cost_usd=0.000045).cost
    Decimal('0.000045')
    """

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    input_cost_usd: Amount | None = None
    output_cost_usd: Amount | None = None
    cache_input_cost_usd: Amount | None = None
    total_cost_usd: Amount | None = None
    latency_ms: Amount | None = None
    ttft_ms: Amount | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @model_validator(mode="before")
    @classmethod
    def _place_cached_tokens(cls, data: object) -> object:
        """Move cached tokens from the provider's own field to OpenAI's, ``prompt_tokens_details.cached_tokens``."""
        if not isinstance(data, dict):
            return data
        cached = next((data[name] for name in _CACHED_TOKENS if name in data), None)
        details = data.get("prompt_tokens_details") or {}
        if type(cached) is not int or cached < 0 or not isinstance(details, dict):
            return data
        if details.get("cached_tokens") is not None:
            return data
        return {**data, "prompt_tokens_details": {**details, "cached_tokens": cached}}

    @property
    def cost(self) -> Decimal | None:
        """The billed cost of the answer in USD, exactly as the service wrote it; None if it stated none."""
        return exact_usd(self.total_cost_usd)


def exact_usd(amount: float | None) -> Decimal | None:
    """``amount`` as the decimal number that the service wrote, not as the nearest binary fraction."""
    return None if amount is None else Decimal(repr(amount))
