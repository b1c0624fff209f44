"""Spans and metrics of OpenTelemetry for every call, with its cost and its route. Needs the extra ``otel``.

Names follow OpenTelemetry's conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/). They
have none for cost yet, so those names are OpenInference's. The tables below hold all names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from lunar_core.cost.entries import Entry
from lunar_core.cost.prices import Prices, checked_prices, with_estimate
from lunar_core.errors import ConfigurationError
from lunar_core.extras import install_command
from lunar_core.observers import CallStart, Endpoint, Outcome, find_callers_span
from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.version import __version__

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context, get_current
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"lunar_core.otel needs {error.name}: {install_command('otel')}",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

Value = str | bool | int | float | list[str]

PROVIDER = "lunar"
OPERATIONS: Mapping[Endpoint, str] = {
    "chat.completions": "chat",
    "router": "chat",
    "completions": "text_completion",
    "router.decide": "route",
}
"""``gen_ai.operation.name`` by endpoint. A decision alone generates nothing; the conventions have no word for it."""

WHOLE_NUMBERS = {
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
TEXTS = {"stop": "gen_ai.request.stop_sequences"}
"""By the parameter of the call. A backend keeps one type for each: a temperature of 1 is 1.0."""

TOKEN_COUNTS = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}
PROMPT_DETAILS = {"cached_tokens": "gen_ai.usage.cache_read.input_tokens"}
COMPLETION_DETAILS = {"reasoning_tokens": "gen_ai.usage.reasoning.output_tokens"}
"""By the field of ``usage``, of its ``prompt_tokens_details`` and of its ``completion_tokens_details``."""

COSTS = {
    "total_cost_usd": "llm.cost.total",
    "input_cost_usd": "llm.cost.prompt",
    "output_cost_usd": "llm.cost.completion",
}
"""USD, as the service billed them, by the field of ``usage``."""

LLM_OPERATIONS = ("chat", "text_completion", "generate_content")
"""A current span with one of these, or of OpenInference's kind ``LLM``, is this call's own span already."""

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4**power for power in range(14)]
"""Bounds of the histograms, as the conventions advise them."""


class _Beginning(NamedTuple):
    """The context and time at which a call began. ``host``: an LLM span of that moment, which gets our attributes."""

    context: Context
    host: Span | None
    at: int


class LunarTelemetry:
    """An observer that reports each call to OpenTelemetry: one span, and its tokens, time and cost as metrics.

    ``tracer_provider``, ``meter_provider``: default the global ones. ``record_content=True``: put prompts and answers
    on the spans; otherwise no text is recorded. ``prices``: for estimates of answers without a stated cost. If the call
    already has an LLM span (the current one, or that of a framework's tracer such as OpenInference or OpenLLMetry),
    that gets cost and route, and no second span is made. Name it first among ``observers``: it learns nothing of a call
    that one before it refuses. Safe to share between clients, threads and event loops.

    Raises ConfigurationError that names a wrong argument, ModuleNotFoundError without the extra ``otel``.

    >>> from lunar_core import Lunar
    >>> client = Lunar("pk_live_...", observers=[LunarTelemetry()])
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        record_content: bool = False,
        prices: Prices | None = None,
    ) -> None:
        if not isinstance(record_content, bool):
            raise ConfigurationError("record_content: expected True or False")
        self._tracer = trace.get_tracer("lunar_core", __version__, tracer_provider)
        self._instruments = _Instruments(meter_provider)
        self._record_content = record_content
        self._prices = checked_prices(prices)
        self._beginnings: dict[str, _Beginning] = {}

    def before(self, call: CallStart, /) -> None:
        """Keep the current span."""
        self._beginnings[call.call_id] = _Beginning(get_current(), _find_host(), time.time_ns())

    def after(self, outcome: Outcome, /) -> None:
        """Make the span.

        OpenTelemetry's locks do not re-enter: the client calls this for a dropped stream in a thread of its own.
        """
        beginning = self._beginnings.pop(outcome.call.call_id, None)
        if beginning is None:
            return  # the decision inside a call, or a call that another observer refused before
        ended = time.time_ns()
        operation = OPERATIONS[outcome.endpoint]
        money_and_route = _cost_and_route(outcome, self._prices)
        if beginning.host is not None:
            if beginning.host.is_recording():  # the span may have ended before a dropped stream
                beginning.host.set_attributes(money_and_route)
        else:
            answer = outcome.answer()
            attributes = _request_attributes(outcome, operation)
            attributes |= _response_attributes(outcome, answer)
            attributes |= money_and_route
            if self._record_content:
                attributes |= _content(outcome, answer)
            span = self._tracer.start_span(
                f"{operation} {outcome.call.requested_model}",
                beginning.context,
                SpanKind.CLIENT,
                attributes,
                start_time=beginning.at,
            )
            if outcome.error is not None:
                span.set_status(Status(StatusCode.ERROR, type(outcome.error).__name__))
            span.end(ended)
        self._instruments.record(outcome, operation, (ended - beginning.at) / 1e9)


class _Instruments:
    """The metrics of calls."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("lunar_core", __version__, provider)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a call, by kind.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long a call took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "How long the first content of a stream took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._cost = meter.create_counter(
            "lunar.client.cost", "{USD}", "What calls cost, as billed."
        )

    def record(self, outcome: Outcome, operation: str, seconds: float) -> None:
        names: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": outcome.call.requested_model,
        }
        if outcome.error is None:
            if outcome.status == "ok" or outcome.call.ttft_ms is not None:  # else no model answered
                names["gen_ai.response.model"] = outcome.model
            self._seconds.record(seconds, names)
        else:
            self._seconds.record(seconds, {**names, "error.type": type(outcome.error).__name__})
        if outcome.call.ttft_ms is not None:
            self._first_chunk.record(outcome.call.ttft_ms / 1000, names)
        usage = outcome.usage
        if usage is None:
            return
        if usage.prompt_tokens is not None:
            self._tokens.record(usage.prompt_tokens, {**names, "gen_ai.token.type": "input"})
        if usage.completion_tokens is not None:
            self._tokens.record(usage.completion_tokens, {**names, "gen_ai.token.type": "output"})
        if usage.total_cost_usd is not None:
            self._cost.add(usage.total_cost_usd, names)


def _find_host() -> Span | None:
    """The LLM span that already exists for this call, whoever made it, or None."""
    current = trace.get_current_span()
    if current.is_recording() and _is_of_llm(current):
        return current
    span = find_callers_span()
    return span if isinstance(span, Span) and span.is_recording() else None


def _is_of_llm(span: Span) -> bool:
    """Whether a framework's instrumentation made this span for this very call. Spans of agents and tools are not."""
    attributes = getattr(span, "attributes", None)  # the SDK's spans can be read; the API's cannot
    if not isinstance(attributes, Mapping):
        return False
    return (
        attributes.get("openinference.span.kind") == "LLM"
        or attributes.get("gen_ai.operation.name") in LLM_OPERATIONS
    )


def _request_attributes(outcome: Outcome, operation: str) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": outcome.call.requested_model,
        "gen_ai.request.stream": outcome.streamed,
    }
    params = outcome.params
    for name, attribute in WHOLE_NUMBERS.items():
        if isinstance(count := params.get(name), int):
            attributes[attribute] = count
    for name, attribute in NUMBERS.items():
        if isinstance(number := params.get(name), (int, float)):
            attributes[attribute] = float(number)
    for name, attribute in TEXTS.items():
        if isinstance(texts := params.get(name), list):
            attributes[attribute] = [str(text) for text in texts]
    return attributes


def _response_attributes(
    outcome: Outcome, answer: ChatCompletion | Completion | None
) -> dict[str, Value]:
    attributes: dict[str, Value] = {"lunar.call_id": outcome.call.call_id}
    if outcome.error is not None:
        attributes["error.type"] = type(outcome.error).__name__
    if outcome.call.ttft_ms is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = outcome.call.ttft_ms / 1000
    if answer is not None:
        attributes["gen_ai.response.model"] = outcome.model
        if answer.id:
            attributes["gen_ai.response.id"] = answer.id
        reasons = [choice.finish_reason for choice in answer.choices if choice.finish_reason]
        if reasons:
            attributes["gen_ai.response.finish_reasons"] = reasons
    usage = outcome.usage
    if usage is not None:
        attributes |= _present(usage, TOKEN_COUNTS)
        attributes |= _present(usage.prompt_tokens_details, PROMPT_DETAILS)
        attributes |= _present(usage.completion_tokens_details, COMPLETION_DETAILS)
    return attributes


def _cost_and_route(outcome: Outcome, prices: Prices | None) -> dict[str, Value]:
    attributes: dict[str, Value] = {}
    usage, route = outcome.usage, outcome.routing
    if usage is not None:
        attributes |= _present(usage, COSTS)
    if prices is not None and (usage is None or usage.cost is None):
        estimate = with_estimate(Entry.of(outcome), outcome, prices).estimate
        if estimate is not None:
            attributes["lunar.cost.estimated"] = float(estimate.cost)
    if outcome.provider is not None:
        attributes["lunar.provider"] = outcome.provider
    if route is not None:
        attributes["lunar.routing.selected_model"] = route.selected_model
        if route.expected_error is not None:
            attributes["lunar.routing.expected_error"] = route.expected_error
    if outcome.cost_weight is not None:
        attributes["lunar.cost_weight"] = float(outcome.cost_weight)
    return attributes


def _present(stated: object, names: Mapping[str, str]) -> dict[str, Value]:
    """The values of ``names`` that the service stated, under the attributes' names."""
    if stated is None:
        return {}
    values = {attribute: getattr(stated, name) for name, attribute in names.items()}
    return {attribute: value for attribute, value in values.items() if value is not None}


def _content(outcome: Outcome, answer: ChatCompletion | Completion | None) -> dict[str, Value]:
    """Prompts and answers in the form of the conventions: JSON of messages with their parts."""
    messages = outcome.params.get("messages", outcome.params.get("prompt"))
    sent = messages if isinstance(messages, list) else [{"role": "user", "content": messages}]
    attributes: dict[str, Value] = {
        "gen_ai.input.messages": _as_json([_message(message) for message in sent])
    }
    if answer is not None:
        received = [
            {**_message(_message_of(choice)), "finish_reason": choice.finish_reason or ""}
            for choice in answer.choices
        ]
        attributes["gen_ai.output.messages"] = _as_json(received)
    return attributes


def _message_of(choice: object) -> Mapping[str, object]:
    message = getattr(choice, "message", None)
    if message is None:
        return {"role": "assistant", "content": getattr(choice, "text", "")}
    fields: dict[str, object] = message.model_dump(exclude_none=True)
    return fields


def _message(message: object) -> dict[str, object]:
    if not isinstance(message, Mapping):
        return {"role": "user", "parts": [{"type": "text", "content": str(message)}]}
    content, calls = message.get("content"), message.get("tool_calls")
    texts = content if isinstance(content, list) else [content] if content else []
    parts: list[object] = [
        {"type": "text", "content": text} if isinstance(text, str) else text for text in texts
    ]
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            parts.append(
                {
                    "type": "tool_call",
                    "id": call.get("id"),
                    "name": function.get("name"),
                    "arguments": function.get("arguments"),
                }
            )
    return {"role": message.get("role", "user"), "parts": parts}


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
