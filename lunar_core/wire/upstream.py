"""Reads the failure of a provider from the message of a gateway's error. Pure.

The service, as it was observed, reports every failure of a provider as a 502. Its message holds the provider's error in
litellm's words: ``All providers failed for model 'x': openai error: litellm.RateLimitError: …``, and from the router
``Model execution failed: …``. The service has then already retried.
"""

from __future__ import annotations

import re

from lunar_core.types.upstream import UpstreamFailure, UpstreamKind

_WRAPPED = re.compile(r"\s*(?:All providers failed|Model execution failed)\b(.*)", re.DOTALL)

TOO_LONG = re.compile(
    r"context[ _]length[ _]exceeded|maximum context length|context window|prompt is too long"
    r"|input is too long|input token count|reduce the length of|tokens exceed the configured limit"
    r"|exceeds? the (?:model'?s? )?(?:maximum )?(?:context|number of tokens|token limit)"
    r"|too large for model with \d+ maximum context|longer than the model'?s context",
    re.IGNORECASE,
)
"""How OpenAI, Azure, Anthropic, Mistral, Google, Groq and vLLM say that a prompt is too long."""

# litellm's classes. The first that the message names counts: a special class stands beside its general one.
_CLASSES: tuple[tuple[str, UpstreamKind], ...] = (
    ("ContextWindowExceededError", "context_length"),
    ("ContentPolicyViolationError", "content_policy"),
    ("ImageFetchError", "bad_image"),
    ("AuthenticationError", "authentication"),
    ("PermissionDeniedError", "permission"),
    ("NotFoundError", "not_found"),
    ("RateLimitError", "rate_limit"),
    ("UnprocessableEntityError", "bad_request"),
    ("UnsupportedParamsError", "bad_request"),
    ("InvalidRequestError", "bad_request"),
    ("BadRequestError", "bad_request"),
    ("Timeout", "timeout"),
    ("APIConnectionError", "unavailable"),
    ("ServiceUnavailableError", "unavailable"),
    ("InternalServerError", "unavailable"),
    ("BadGatewayError", "unavailable"),
    ("APIError", "unavailable"),
)
# The cause of a bad request, and the failure if no class is named.
_REQUESTS: tuple[tuple[re.Pattern[str], UpstreamKind], ...] = (
    (TOO_LONG, "context_length"),
    (re.compile(r"content (?:management )?policy|safety system", re.IGNORECASE), "content_policy"),
    (re.compile(r"\bimages?(?:_url)?\b", re.IGNORECASE), "bad_image"),
)
_FAILURES: tuple[tuple[re.Pattern[str], UpstreamKind], ...] = (
    *_REQUESTS[:2],
    (re.compile(r"model not found|no such model", re.IGNORECASE), "not_found"),
    (re.compile(r"rate limit|too many requests", re.IGNORECASE), "rate_limit"),
    (re.compile(r"timed out|timeout", re.IGNORECASE), "timeout"),
)
_STATUSES: dict[UpstreamKind, int] = {
    "context_length": 400,
    "content_policy": 400,
    "bad_request": 400,
    "bad_image": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "rate_limit": 429,
    "timeout": 504,
    "unavailable": 503,
}


def read_upstream(reason: str) -> UpstreamFailure | None:
    """The provider's failure that ``reason``, a gateway's message, describes. None if it describes none.

    >>> read_upstream("All providers failed for model 'm': openai error: litellm.RateLimitError: slow down")
    UpstreamFailure(kind='rate_limit', status=429)
    """
    wrapped = _WRAPPED.match(reason)
    if wrapped is None:
        return None
    words = wrapped[1]
    kind = next((kind for name, kind in _CLASSES if re.search(rf"\b{name}\b", words)), None)
    if kind is None:
        kind = _first(_FAILURES, words) or "unavailable"
    elif kind == "bad_request":
        kind = _first(_REQUESTS, words) or kind
    return UpstreamFailure(kind, _STATUSES[kind])


def _first(
    table: tuple[tuple[re.Pattern[str], UpstreamKind], ...], words: str
) -> UpstreamKind | None:
    return next((kind for pattern, kind in table if pattern.search(words)), None)
