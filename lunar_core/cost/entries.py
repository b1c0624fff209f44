"""One Entry per call: its tokens, its cost, its purpose. Made of an Outcome, or of what a framework reports."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any

from lunar_core.cost.amounts import checked_amount, exact_sum
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Outcome, Status
from lunar_core.types.attempt import Attempt
from lunar_core.types.completions import RoutingDecision
from lunar_core.types.usage import Usage, exact_usd

_AMOUNTS = ("cost", "saved", "input_cost", "output_cost", "cache_input_cost")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_OPTIONAL_COUNTS = ("cached_tokens", "reasoning_tokens")
_KINDS = {
    "call_id": (str, "a text"),
    "model": (str, "a text"),
    "tags": (Mapping, "a mapping"),
    "labels": (Mapping, "a mapping"),
}
_DEEPEST = 32
"""How many levels of a label are kept."""


@dataclass(frozen=True)
class Estimate:
    """What an answer without a stated cost may have cost: ``cost`` in USD, for so many tokens.

    ``tokens_estimated``: the tokens were counted here, because the service did not state them. ``source``: the source
    of the prices, ``"service"`` or ``"genai-prices <version>"``.
    """

    cost: Decimal
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    source: str

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON, with the cost as a string."""
        return {**vars(self), "cost": format(self.cost, "f")}


@dataclass(frozen=True)
class Entry:
    """One call, as the service billed it. ``cost``: USD, or None if the service stated none.

    ``saved``: USD that a cache saved, the first cost of the answer. ``estimate``: what an answer without a stated cost
    may have cost, from a ledger with ``prices``; it is never part of ``cost``. An entry with ``endpoint ==
    "router.decide"`` is a decision alone, which is not billed as an answer: without a cost it does not count as
    unpriced.

    Amounts may be ``int``, ``str``, ``Decimal`` or ``float``. Raises ConfigurationError for a negative or infinite
    amount, for a count that is no whole number, and for a name, tags or labels of the wrong kind.

    >>> Entry("call_1", "gpt-4o-mini", cost=0.000045).cost
    Decimal('0.000045')
    """

    call_id: str
    model: str
    endpoint: str = "chat.completions"
    requested_model: str = ""
    provider: str | None = None
    status: Status = "ok"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: Decimal | None = None
    saved: Decimal | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, object] = field(default_factory=dict)
    """Facts from a framework: names and ids of runs, its own tags and metadata."""
    attempts: tuple[Attempt, ...] = ()
    latency_ms: float | None = None
    ttft_ms: float | None = None
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    cached_tokens: int | None = None
    """Tokens of the prompt that the provider had in its cache; None if unknown."""
    reasoning_tokens: int | None = None
    """Tokens of the answer that were reasoning; None if unknown."""
    input_cost: Decimal | None = None
    output_cost: Decimal | None = None
    cache_input_cost: Decimal | None = None
    routing: Mapping[str, object] | None = None
    """The router's decision as plain JSON; None without one."""
    candidates: tuple[str, ...] = ()
    """The models that the router had to choose from."""
    cost_weight: float | None = None
    """The ``cost_weight`` of the call."""
    streamed: bool = False
    error: str | None = None
    """The class of the error that ended the call."""
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        for name, (kind, words) in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(f"{name}: expected {words}")
        if self.estimate is not None and not isinstance(self.estimate, Estimate):
            raise ConfigurationError("estimate: expected an Estimate or None")
        for name in _AMOUNTS:
            value = getattr(self, name)
            if value is not None and not (
                type(value) is Decimal and value.is_finite() and value >= 0
            ):
                object.__setattr__(self, name, checked_amount(value, name))
        for name in _COUNTS:
            _check_count(getattr(self, name), name)
        for name in _OPTIONAL_COUNTS:
            if getattr(self, name) is not None:
                _check_count(getattr(self, name), name)

    @property
    def unpriced(self) -> bool:
        """Whether an answer, or a part of one, came or may have come without a stated cost."""
        if self.cost is not None or self.saved is not None or self.endpoint == "router.decide":
            return False
        return self.status != "failed" or any(attempt.may_be_billed for attempt in self.attempts)

    @property
    def model_name(self) -> str:
        """The model without its provider: ``openai/gpt-4o`` and ``gpt-4o`` are one row in ``by_model``."""
        return model_name(self.model)

    @classmethod
    def of(cls, outcome: Outcome) -> Entry:
        """The entry of a call that has ended."""
        call, usage = outcome.call, outcome.usage
        fields_of_usage = _usage_fields(usage)
        if (
            outcome.endpoint != "router.decide"
        ):  # in a call's attempts, those of its decision are listed again
            failures = [attempt.cost_usd for attempt in call.attempts[:-1]]
            cost = None if usage is None else usage.cost
            fields_of_usage["cost"] = _with_failures(cost, failures, outcome.status)
        return cls(
            call_id=call.call_id,
            model=outcome.model,
            endpoint=outcome.endpoint,
            requested_model=call.requested_model,
            provider=outcome.provider,
            status=outcome.status,
            tags=outcome.tags,
            attempts=call.attempts,
            latency_ms=call.latency_ms,
            ttft_ms=call.ttft_ms,
            routing=_route(outcome.routing),
            candidates=outcome.candidates,
            cost_weight=outcome.cost_weight,
            streamed=outcome.streamed,
            error=None if outcome.error is None else type(outcome.error).__name__,
            **fields_of_usage,
        )

    def to_dict(self) -> dict[str, object]:
        """Everything as plain JSON: costs as strings, ``labels`` as a store keeps them.

        >>> Entry("call_1", "gpt-4o-mini", cost=0.000045).to_dict()["cost"]
        '0.000045'
        """
        values: dict[str, object] = {
            field.name: getattr(self, field.name) for field in fields(self)
        }
        for name in _AMOUNTS:
            amount = getattr(self, name)
            values[name] = None if amount is None else format(amount, "f")
        return {
            **values,
            "tags": dict(self.tags),
            "labels": plain_json(self.labels),
            "routing": plain_json(self.routing),
            "candidates": list(self.candidates),
            "attempts": [attempt_dict(attempt) for attempt in self.attempts],
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
        }


def model_name(model: str) -> str:
    """``model`` without the provider that ``provider/model`` forces."""
    return model.partition("/")[2] or model


def attempt_dict(attempt: Attempt) -> dict[str, object]:
    """An attempt as plain JSON, including ``may_be_billed``."""
    return {**asdict(attempt), "may_be_billed": attempt.may_be_billed}


def entry_from_metadata(
    metadata: Mapping[str, object],
    usage: Mapping[str, object] | None = None,
    *,
    call_id: str,
    endpoint: str = "chat.completions",
    status: Status = "ok",
    requested_model: str = "",
    provider: str | None = None,
    tags: Mapping[str, str] | None = None,
    labels: Mapping[str, object] | None = None,
    attempts: tuple[Attempt, ...] = (),
    streamed: bool = False,
    error: str | None = None,
) -> Entry:
    """The entry of a call that a framework reports, from what it keeps beside the answer. For both frameworks.

    ``metadata``: LangChain's ``response_metadata`` or LlamaIndex's ``additional_kwargs``: ``call_id``, ``model_name``
    or ``model``, ``requested_model``, ``provider``, ``total_cost_usd`` and its parts, ``latency_ms``, ``ttft_ms``,
    ``routing``. ``usage``: the tokens, under OpenAI's names or LangChain's (``input_tokens``); default the metadata
    itself. The metadata overrides the keywords, which state what was known before the call. A value of a wrong form
    counts as unknown: nothing that a service wrote raises an error.

    >>> entry_from_metadata({"model": "gpt-4o", "total_cost_usd": 0.5, "prompt_tokens": 3}, call_id="run-1").cost
    Decimal('0.5')
    """
    counts = metadata if usage is None else usage
    prompt = _count(counts, "prompt_tokens", "input_tokens") or 0
    completion = _count(counts, "completion_tokens", "output_tokens") or 0
    route = metadata.get("routing")
    routing = plain_json(route) if isinstance(route, Mapping) else None
    cost = _amount(metadata.get("total_cost_usd"))
    selected = route if isinstance(route, Mapping) else {}
    return Entry(
        call_id=_text(metadata.get("call_id")) or call_id,
        model=_text(metadata.get("model_name"))
        or _text(metadata.get("model"))
        or _text(selected.get("selected_model"))
        or requested_model,
        endpoint=endpoint,
        requested_model=_text(metadata.get("requested_model")) or requested_model,
        provider=_text(metadata.get("provider"))
        or _text(selected.get("selected_provider"))
        or provider,
        status=status,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(counts, "total_tokens") or prompt + completion,
        cost=_with_failures(cost, _costs_of_failures(attempts, metadata), status),
        tags=tags or {},
        labels=labels or {},
        attempts=attempts,
        latency_ms=_number(metadata.get("latency_ms")),
        ttft_ms=_number(metadata.get("ttft_ms")),
        cached_tokens=_detail(
            counts,
            ("prompt_tokens_details", "cached_tokens"),
            ("input_token_details", "cache_read"),
        ),
        reasoning_tokens=_detail(
            counts,
            ("completion_tokens_details", "reasoning_tokens"),
            ("output_token_details", "reasoning"),
        ),
        input_cost=_amount(metadata.get("input_cost_usd")),
        output_cost=_amount(metadata.get("output_cost_usd")),
        cache_input_cost=_amount(metadata.get("cache_input_cost_usd")),
        routing=routing if isinstance(routing, dict) else None,
        streamed=streamed,
        error=error,
    )


def _with_failures(
    cost: Decimal | None, failures: Iterable[float | None], status: Status
) -> Decimal | None:
    """The answer's ``cost`` and what the service billed for the attempts that failed before it.

    None where the answer's own is unknown: a part would pass for the whole.
    """
    billed = [exact_usd(failure) for failure in failures if failure is not None]
    if not billed or (cost is None and status != "failed"):
        return cost
    return exact_sum([cost, *billed])


def _costs_of_failures(
    attempts: Sequence[Attempt], metadata: Mapping[str, object]
) -> list[float | None]:
    """Of the attempts before the last, from what a framework keeps of them: themselves, or as plain dicts."""
    if attempts:
        return [attempt.cost_usd for attempt in attempts[:-1]]
    kept = metadata.get("attempts")
    costs = (
        [attempt.get("cost_usd") for attempt in kept if isinstance(attempt, Mapping)]
        if isinstance(kept, (list, tuple))
        else []
    )
    return [
        cost for cost in costs[:-1] if isinstance(cost, float) and cost >= 0 and math.isfinite(cost)
    ]


def _usage_fields(usage: Usage | None) -> dict[str, Any]:  # each name with its own type
    if usage is None:
        return {}
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    of_prompt, of_completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": usage.total_tokens or prompt + completion,
        "cost": usage.cost,
        "cached_tokens": None if of_prompt is None else of_prompt.cached_tokens,
        "reasoning_tokens": None if of_completion is None else of_completion.reasoning_tokens,
        "input_cost": exact_usd(usage.input_cost_usd),
        "output_cost": exact_usd(usage.output_cost_usd),
        "cache_input_cost": exact_usd(usage.cache_input_cost_usd),
    }


def _route(route: RoutingDecision | None) -> Mapping[str, object] | None:
    return None if route is None else route.model_dump(mode="json", exclude_none=True)


def plain_json(value: object, depth: int = 0) -> object:
    """``value`` as JSON. What JSON cannot hold becomes its class's name; NUL and lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    # A limit, because a value that contains itself has no end.
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {plain_text(str(key)): plain_json(held, depth + 1) for key, held in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [plain_json(held, depth + 1) for held in value]
    return value if value is None or isinstance(value, bool) else type(value).__name__


def plain_text(text: str) -> str:
    """``text`` for any database: NUL and lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else str(text)
    return "".join(
        "\ufffd" if sign == "\0" or "\ud800" <= sign <= "\udfff" else sign for sign in text
    )


def _check_count(value: object, name: str) -> None:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{name}: expected a whole number, 0 or more, not {value!r}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _amount(value: object) -> Decimal | None:
    number = _number(value)
    return (
        exact_usd(number) if number is not None and math.isfinite(number) and number >= 0 else None
    )


def _count(usage: Mapping[str, object], *names: str) -> int | None:
    """The first count above 0 among ``names``."""
    return next((count for name in names if (count := _whole(usage.get(name)))), None)


def _detail(usage: Mapping[str, object], *places: tuple[str, str]) -> int | None:
    for group, name in places:
        details = usage.get(group)
        if isinstance(details, Mapping) and _whole(details.get(name)) is not None:
            return _whole(details.get(name))
    return None


def _whole(value: object) -> int | None:
    """A count, or None. Other vendors also write whole numbers as floats."""
    number = _number(value)
    return int(number) if number is not None and math.isfinite(number) and number >= 0 else None
