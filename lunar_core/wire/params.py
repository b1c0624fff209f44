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
    total_timeout: float | None
    fallbacks: Sequence[str] | None
    extra_headers: Mapping[str, str] | None
    stream_usage: bool | None
    """True: streams of chat and text completions state tokens and cost at their end, fallbacks of a router included.

    Sets ``stream_options``, unless the call gives its own.
    """
    extra_body: Mapping[str, object] | None
    """Fields merged into the request as they are."""


class ChatParams(CallOptions, total=False):
    """Keywords of ``chat.completions.create`` beside ``model``, ``messages`` and ``stream``."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    n: int | None
    provider: str | None
    # with model="router"
    models: Sequence[str] | None
    cost_weight: CostWeight | None
    # OpenAI's, passed through
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, object] | None
    stream_options: Mapping[str, object] | None
    seed: int | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[str, float] | None
    reasoning_effort: str | None
    user: str | None


class CompletionParams(CallOptions, total=False):
    """Keywords of ``completions.create`` beside ``model``, ``prompt`` and ``stream``."""

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
    """Keywords of ``router.decide`` beside ``messages``."""

    models: Sequence[str] | None
    cost_weight: CostWeight | None


class RouterParams(DecideParams, total=False):
    """Keywords of ``router.create`` beside ``messages``, ``execute`` and ``stream``."""

    max_tokens: int | None
    temperature: float | None
