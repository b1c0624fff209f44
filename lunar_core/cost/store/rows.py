"""Converts an entry to a row of ``lunar_entries``, and back. Pure."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from hashlib import sha256
from typing import Any

from lunar_core.cost.entries import Entry, Estimate, attempt_dict, plain_json, plain_text
from lunar_core.cost.selection import hour_of
from lunar_core.types.attempt import Attempt

_MOST = 10**15
"""The largest number of tokens of a call, and of hours since 1970: a sum of a thousand still fits 64 bits."""

_LONGEST_ID = 300
"""Characters. A longer id is distinguished by its hash."""

_ATTEMPT_FIELDS = {field.name for field in fields(Attempt) if field.init}


def row_of(entry: Entry) -> dict[str, object]:
    """The row of an entry.

    Values that no database takes are replaced: NUL, lone surrogates, labels that are no JSON.
    """
    at = entry.at if math.isfinite(entry.at) else time.time()
    return {
        "call_id": call_key(entry.call_id),
        "at": at,
        "hour": max(-_MOST, min(hour_of(at), _MOST)),
        "unpriced": int(entry.unpriced),
        "prompt_tokens": min(entry.prompt_tokens, _MOST),
        "completion_tokens": min(entry.completion_tokens, _MOST),
        "total_tokens": min(entry.total_tokens, _MOST),
        "cost": _digits(entry.cost),
        "saved": _digits(entry.saved),
        "estimated": None if entry.estimate is None else str(entry.estimate.cost),
        "endpoint": plain_text(str(entry.endpoint)),
        "status": plain_text(str(entry.status)),
        "model_name": plain_text(entry.model_name),
        "provider": _text(entry.provider),
        "model": plain_text(entry.model),
        "requested_model": plain_text(entry.requested_model),
        "tags": encode({_plain(name): _plain(value) for name, value in entry.tags.items()}),
        "cached_tokens": _count(entry.cached_tokens),
        "reasoning_tokens": _count(entry.reasoning_tokens),
        "input_cost": _digits(entry.input_cost),
        "output_cost": _digits(entry.output_cost),
        "cache_input_cost": _digits(entry.cache_input_cost),
        "latency_ms": _number(entry.latency_ms),
        "ttft_ms": _number(entry.ttft_ms),
        "cost_weight": _number(entry.cost_weight),
        "streamed": int(entry.streamed),
        "error": _text(entry.error),
        "labels": dump_json(entry.labels),
        "attempts": dump_json([attempt_dict(attempt) for attempt in entry.attempts]),
        "candidates": dump_json(entry.candidates),
        "routing": None if entry.routing is None else dump_json(entry.routing),
        "estimate": None if entry.estimate is None else dump_json(entry.estimate.to_dict()),
    }


def call_key(call_id: str) -> str:
    """The key of a call in a store: its id, short enough for an index of PostgreSQL."""
    plain = plain_text(call_id)
    if len(plain) <= _LONGEST_ID:
        return plain
    return f"{plain[:_LONGEST_ID]}…{sha256(plain.encode()).hexdigest()}"


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The entry of a row."""
    estimate = _load_json(row["estimate"])
    return Entry(
        call_id=row["call_id"],
        model=row["model"],
        endpoint=row["endpoint"],
        requested_model=row["requested_model"],
        provider=row["provider"],
        status=row["status"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        total_tokens=row["total_tokens"],
        cost=row["cost"],
        saved=row["saved"],
        tags=_load_json(row["tags"]),
        labels=_load_json(row["labels"]),
        attempts=tuple(map(_attempt, _load_json(row["attempts"]))),
        latency_ms=row["latency_ms"],
        ttft_ms=row["ttft_ms"],
        at=row["at"],
        cached_tokens=row["cached_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        input_cost=row["input_cost"],
        output_cost=row["output_cost"],
        cache_input_cost=row["cache_input_cost"],
        routing=_load_json(row["routing"]),
        candidates=tuple(_load_json(row["candidates"])),
        cost_weight=row["cost_weight"],
        streamed=bool(row["streamed"]),
        error=row["error"],
        estimate=None
        if estimate is None
        else Estimate(**{**estimate, "cost": Decimal(estimate["cost"])}),
    )


encode = json.JSONEncoder(ensure_ascii=False).encode


def dump_json(value: object) -> str:
    """JSON text of any value."""
    return encode(plain_json(value)) if value else "{}" if isinstance(value, Mapping) else "[]"


def _load_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _attempt(stored: Mapping[str, Any]) -> Attempt:
    return Attempt(**{name: value for name, value in stored.items() if name in _ATTEMPT_FIELDS})


def _plain(value: object) -> str:
    return plain_text(value if isinstance(value, str) else str(value))


def _digits(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _text(value: str | None) -> str | None:
    return None if value is None else plain_text(str(value))


def _count(value: int | None) -> int | None:
    return None if value is None else min(value, _MOST)


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
