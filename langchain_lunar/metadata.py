"""Puts the facts of an answer where LangChain, its callbacks and its tracers look for them. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from lunar_core import bridge
from lunar_core.types.completions import ChatCompletion, Completion, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire import parsing


def metadata_of(
    answer: ChatCompletion | Completion,
    finish_reason: str | None,
    *,
    decision: RoutingDecision | None = None,
    spent: bool = True,
) -> dict[str, Any]:
    """The ``response_metadata`` of an answer: everything known of it but its tokens and its text.

    ``decision``: the routing decision, if an earlier request made it. ``spent``: include cost and times.
    """
    routing = answer.routing if isinstance(answer, ChatCompletion) else None
    return with_extra(
        bridge.metadata(
            call=answer.call,
            model=answer.model,
            answer_id=answer.id,
            finish_reason=finish_reason,
            usage=answer.usage if spent else None,
            routing=routing or decision,
            extra=answer.model_extra,
        ),
        answer.model_extra,
    )


def with_extra(metadata: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """``metadata``, and the undocumented fields of the answer (``system_fingerprint``, ``citations``, …)."""
    beyond = {name: value for name, value in (extra or {}).items() if value is not None}
    return {**beyond, **metadata}


def read_decision(route: object) -> RoutingDecision | None:
    """The decision that a dict holds; None if it holds none."""
    if not isinstance(route, dict):
        return None
    try:
        return parsing.validate_leniently(RoutingDecision, dict(route))
    except ValueError:
        return None


# For callbacks and tracers ---------------------------------------------------------------------


def generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The ``generation_info`` for callbacks and tracers.

    langchain-core's tracers take ``lc_gateway_metadata`` for the run's own: model and provider there replace the
    requested ones, so that LangSmith prices the model that answered. langchain-core keeps the key off the public
    message.
    """
    names = {
        "model": "model_name",
        "provider": "provider",
        "requested_model": "requested_model",
        "call_id": "call_id",
        "total_cost_usd": "total_cost_usd",
        "routing": "routing",
    }
    gateway = {key: metadata[name] for key, name in names.items() if name in metadata}
    info: dict[str, Any] = {"lc_gateway_metadata": gateway}
    if "finish_reason" in metadata:
        info["finish_reason"] = metadata["finish_reason"]
    return info


def finite_logprobs(logprobs: Any) -> Any:
    """Log probabilities without -Infinity, which some upstreams write and databases and browsers refuse."""
    if isinstance(logprobs, float):
        return logprobs if math.isfinite(logprobs) else parsing.LEAST_LOGPROB
    if isinstance(logprobs, Mapping):
        return {key: finite_logprobs(value) for key, value in logprobs.items()}
    return [finite_logprobs(item) for item in logprobs] if isinstance(logprobs, list) else logprobs


# Tokens ----------------------------------------------------------------------------------------


def token_usage(usage: Usage | None) -> dict[str, int]:
    """Tokens under the API's names, as far as the service stated them."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: count for name in names if (count := getattr(usage, name, None)) is not None}


def added_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of the tokens of several answers."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def usage_metadata(usage: Usage | None, *, cost: bool = False) -> UsageMetadata | None:
    """Tokens in LangChain's form: whole numbers only. None if the service stated none.

    ``cost``: add the USD, for LangSmith. langchain-core's own usage callback cannot add floats up.
    """
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return None
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    counts = UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=usage.total_tokens or prompt + completion,
    )
    read_in, written = _input_details(usage), _output_details(usage)
    if read_in:
        counts["input_token_details"] = read_in
    if written:
        counts["output_token_details"] = written
    if cost:
        cast("dict[str, Any]", counts).update(
            _costs(usage)
        )  # LangSmith's keys, which core's type lacks
    return counts


_CACHE_READ = ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")
"""The names that Anthropic, DeepSeek and Kimi use for tokens read from their cache."""


def _input_details(usage: Usage) -> InputTokenDetails:
    details, stated = usage.prompt_tokens_details, usage.model_extra or {}
    beside = (details.model_extra or {}) if details else {}
    counts = {
        "cache_read": details.cached_tokens if details else None,
        "cache_creation": beside.get("cache_creation_tokens", beside.get("cache_write_tokens")),
        "audio": details.audio_tokens if details else None,
    }
    if counts["cache_read"] is None:
        counts["cache_read"] = next((stated[name] for name in _CACHE_READ if name in stated), None)
    if counts["cache_creation"] is None:
        counts["cache_creation"] = stated.get("cache_creation_input_tokens")
    return cast("InputTokenDetails", _counts(counts))


def _output_details(usage: Usage) -> OutputTokenDetails:
    details = usage.completion_tokens_details
    if details is None:
        return OutputTokenDetails()
    counts = {"reasoning": details.reasoning_tokens, "audio": details.audio_tokens}
    return cast("OutputTokenDetails", _counts(counts))


def _counts(counts: Mapping[str, object]) -> dict[str, int]:
    return {key: int(n) for key, n in counts.items() if isinstance(n, (int, float)) and n >= 0}


def _costs(usage: Usage) -> dict[str, float]:
    names = {
        "input_cost": usage.input_cost_usd,
        "output_cost": usage.output_cost_usd,
        "total_cost": usage.total_cost_usd,
    }
    return {name: value for name, value in names.items() if value is not None}
