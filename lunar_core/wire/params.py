"""The keywords of ``create()`` as TypedDicts: for type checkers, at no cost at run time.

The fields are those of https://api.pureai-api.com/v1/chat/completions and its siblings. Fields marked OpenAI are passed
through to the provider. Other fields may be given as ``extra_body``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel
from typing_extensions import Required, TypedDict


class FunctionCallParam(TypedDict):
    name: str
    arguments: str


class ToolCallParam(TypedDict):
    id: str
    type: Literal["function"]
    function: FunctionCallParam


class TextPartParam(TypedDict):
    type: Literal["text"]
    text: str


class ImageUrlParam(TypedDict, total=False):
    url: Required[str]
    detail: Literal["auto", "low", "high"]


class ImagePartParam(TypedDict):
    type: Literal["image_url"]
    image_url: ImageUrlParam


PartParam = TextPartParam | ImagePartParam | Mapping[str, object]


class ChatMessageParam(TypedDict, total=False):
    """``{"role": "user", "content": "hi"}``; ``tool_calls`` on assistant, ``tool_call_id`` on tool messages."""

    role: Required[Literal["system", "user", "assistant", "tool", "developer"]]
    content: str | Sequence[PartParam] | None
    name: str
    tool_calls: Sequence[ToolCallParam]
    tool_call_id: str


CostWeight = float | Callable[[], float]
"""A number, 0 or more, or a function that returns one and is called for each routed request."""

MessageParam = ChatMessageParam | Mapping[str, object] | BaseModel


class CallOptions(TypedDict, total=False):
    """Options for this call alone, in place of the client's own. Only ``extra_body`` is sent."""

    timeout: object
    """Seconds, ``(connect, read)``, ``lunar_core.Timeout`` or httpx's own."""
    max_retries: int
    """More attempts per model after a transient failure."""
    total_timeout: float | None
    """Seconds for the call with its retries, its fallbacks and the body of its stream."""
    fallbacks: Sequence[str] | None
    """Models to ask, in order, when the first one fails."""
    extra_headers: Mapping[str, str] | None
    """Headers of the request, beside the client's own."""
    stream_usage: bool | None
    """True: streams of chat and text completions state tokens and cost at their end, fallbacks of a router included.

    Sets ``stream_options``, unless the call gives its own.
    """
    extra_body: Mapping[str, object] | None
    """Fields merged into the request as they are."""


class ChatParams(CallOptions, total=False):
    """Keywords of ``chat.completions.create`` beside ``model``, ``messages`` and ``stream``.

    Those that are OpenAI's are passed through to the provider.
    """

    max_tokens: int | None
    """Tokens to generate at most."""
    temperature: float | None
    """From 0 to 2."""
    top_p: float | None
    """Sample from the likeliest tokens that make up this share, from 0 to 1."""
    stop: str | Sequence[str] | None
    """Texts at which generation ends."""
    presence_penalty: float | None
    """From -2 to 2: above 0, what was said at all is said less."""
    frequency_penalty: float | None
    """From -2 to 2: above 0, what was said often is said less."""
    n: int | None
    """How many answers to generate."""
    provider: str | None
    """The provider that must serve the model."""
    models: Sequence[str] | None
    """With ``model="router"``: the models to choose from, 2 or more; default all."""
    cost_weight: CostWeight | None
    """With ``model="router"``: 0 or more, or a function. It is the weight of USD per 1,000 tokens in the choice."""
    tools: Sequence[Mapping[str, object]] | None
    """OpenAI's: the functions that the model may call."""
    tool_choice: str | Mapping[str, object] | None
    """OpenAI's: "auto", "none", "required", or the function that must be called."""
    parallel_tool_calls: bool | None
    """OpenAI's: whether an answer may hold several calls."""
    response_format: Mapping[str, object] | None
    """OpenAI's: JSON, or JSON of a schema."""
    stream_options: Mapping[str, object] | None
    """OpenAI's; ``stream_usage`` sets it."""
    seed: int | None
    """OpenAI's: for answers that can be had again, as far as the provider can."""
    logprobs: bool | None
    """OpenAI's: whether to return log probabilities."""
    top_logprobs: int | None
    """OpenAI's: of how many of the likeliest tokens, at each place."""
    logit_bias: Mapping[str, float] | None
    """OpenAI's: by token, how much likelier or less likely it gets."""
    reasoning_effort: str | None
    """OpenAI's: "low", "medium", "high", or what the provider knows."""
    user: str | None
    """OpenAI's: an id of your user."""


class CompletionParams(CallOptions, total=False):
    """Keywords of ``completions.create`` beside ``model``, ``prompt`` and ``stream``: as in ``ChatParams``."""

    max_tokens: int | None
    temperature: float | None
    stop: str | Sequence[str] | None
    # OpenAI's, passed through
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    n: int | None
    seed: int | None
    stream_options: Mapping[str, object] | None
    provider: str | None
    user: str | None


class DecideParams(CallOptions, total=False):
    """Keywords of ``router.decide`` beside ``messages``: as in ``ChatParams``."""

    models: Sequence[str] | None
    cost_weight: CostWeight | None


class RouterParams(DecideParams, total=False):
    """Keywords of ``router.create`` beside ``messages``, ``execute`` and ``stream``: as in ``ChatParams``."""

    max_tokens: int | None
    temperature: float | None
