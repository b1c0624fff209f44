"""The keywords of ``ChatLunar`` and ``LunarLLM`` for type checkers: every field, and the alternative names of some.

At run time pydantic takes the keywords from the fields, and ``migration`` the alternative names. A test compares the
three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.callbacks import Callbacks
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter
from typing_extensions import TypedDict

from langchain_lunar.connection import Secret
from langchain_lunar.messages import ReplayReasoning
from lunar_core import bridge
from lunar_core.observers import Observer
from lunar_core.routing import Sticky


class CommonKeywords(TypedDict, total=False):
    """The keywords of both models."""

    model: str
    api_key: Secret
    jwt: Secret
    base_url: str | None
    timeout: object
    max_retries: int
    total_timeout: float | None
    max_connections: int
    fallbacks: Sequence[str] | None
    default_headers: Mapping[str, str] | None
    http_client: Any
    http_async_client: Any
    observers: Sequence[Observer]
    allow_http: bool
    cost_tags: Mapping[str, str] | None

    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    stop: Sequence[str] | str | None
    n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    user: str | None
    provider: str | None
    stream_usage: bool
    model_kwargs: Mapping[str, Any]
    extra_body: Mapping[str, Any] | None

    name: str | None
    cache: BaseCache | bool | None
    verbose: bool
    callbacks: Callbacks
    tags: Sequence[str] | Mapping[str, str] | None
    metadata: Mapping[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None

    # Alternative names
    api_base: str | None
    extra_headers: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    max_completion_tokens: int | None
    model_name: str
    openai_api_base: str | None
    openai_api_key: Secret
    openrouter_api_base: str | None
    openrouter_api_key: Secret
    request_timeout: object
    stop_sequences: Sequence[str] | str | None


class ChatKeywords(CommonKeywords, total=False):
    """The keywords of ``ChatLunar``."""

    models: Sequence[str] | None
    cost_weight: bridge.CostWeight | None
    sticky: Sticky
    replay_reasoning: ReplayReasoning
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[int | str, float] | None
    reasoning_effort: str | None
    streaming: bool | None
    stream: bool | None
    langsmith_cost: bool

    rate_limiter: BaseRateLimiter | None
    disable_streaming: object
    output_version: str | None
    profile: ModelProfile | None
