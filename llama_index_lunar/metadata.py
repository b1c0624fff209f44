"""Puts the facts of an answer where LlamaIndex, its handlers and its tracers look for them. Pure."""

from __future__ import annotations

from typing import Any

from lunar_core import bridge
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire.api_requests import ROUTER

JSONObject = dict[str, Any]


def complete_raw(raw: JSONObject, usage: Usage | None, routing: JSONObject | None) -> JSONObject:
    """``raw`` with everything that the service stated about tokens, cost and route."""
    if usage is not None:
        raw["usage"] = usage.model_dump(mode="json", exclude_none=True)
    if routing is not None:
        raw["routing"] = routing
        raw["model"] = raw.get("model") or routing.get("selected_model")
    return raw


def answer_metadata(
    raw: JSONObject,
    call: CallInfo,
    usage: Usage | None,
    route: RoutingDecision | None,
    finish_reason: str | None,
) -> JSONObject:
    """The ``additional_kwargs`` of a response: tokens, USD, ms and more, flat; absent if unknown."""
    metadata: JSONObject = {}
    if usage is not None:
        prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
        metadata = {name: count for name, count in counts.items() if count is not None}
    metadata |= bridge.metadata(
        call=call,
        model=_string(raw.get("model")),
        answer_id=_string(raw.get("id")),
        finish_reason=finish_reason,
        usage=usage,
        routing=route,
        extra=raw,
    )
    metadata["model"] = metadata.pop("model_name", None) or call.requested_model
    metadata.pop("model_provider")
    if raw.get("routing"):
        metadata["routing"] = raw["routing"]
    return metadata


def find_writer(call: CallInfo, route: RoutingDecision | None) -> str | None:
    """The model that wrote an answer, by Lunar's name: the last one that was asked, or the router's choice."""
    model = call.attempts[-1].model if call.attempts else call.requested_model
    if model == ROUTER:
        return None if route is None else route.selected_model
    return model or None


def reasoning_tokens(usage: Usage | None) -> int | None:
    """How many tokens of the answer were reasoning; None if the service did not state it."""
    details = usage and usage.completion_tokens_details
    return details.reasoning_tokens if details else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
