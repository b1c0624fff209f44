"""Measures the cost of a call's span and metrics, with an exporter that does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from lab import Lab
from ledgers import make_outcomes
from opentelemetry.context import get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from report import Row

from lunar_core import CallStart
from lunar_core.otel import LunarTelemetry

CALLS = 10_000
SPAN = {f"gen_ai.attribute.number{number}": "value" for number in range(9)}
POINT = {f"gen_ai.attribute.number{number}": "value" for number in range(4)}
"""As many attributes as a span and a point of a metric get from the calls that are measured."""


class Nothing(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def measure_span(lab: Lab, line: str) -> Iterator[Row]:
    """Measure ``before`` and ``after`` of each call, on its own thread. The floor is OpenTelemetry's SDK alone."""
    ours, floor = _observe_calls(lab.count(CALLS)), _use_the_sdk_alone(lab.count(CALLS))
    rounds: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(lab.rounds):
        rounds["ours"].append(ours())
        rounds["floor"].append(floor())
    micros = {name: statistics.median(figures) for name, figures in rounds.items()}
    yield Row(line, "no-op exporter", "µs a call", micros["ours"], 40.0, floor=micros["floor"])


def _observe_calls(count: int) -> Callable[[], float]:
    """A function that observes ``count`` calls and returns the µs of processor time for each."""
    telemetry = LunarTelemetry(_tracers(), MeterProvider())
    outcomes = make_outcomes(0, count)
    starts = [
        CallStart(outcome.call.call_id, outcome.endpoint, outcome.model, {"model": outcome.model})
        for outcome in outcomes
    ]

    def tell() -> float:
        started = time.thread_time()
        for start, outcome in zip(starts, outcomes, strict=True):
            telemetry.before(start)
            telemetry.after(outcome)
        return (time.thread_time() - started) / count * 1e6

    return tell


def _use_the_sdk_alone(count: int) -> Callable[[], float]:
    """The same with the SDK alone: one span and four points of metrics, with ready attributes."""
    tracer = _tracers().get_tracer("bench")
    meter = MeterProvider().get_meter("bench")
    seconds, tokens = meter.create_histogram("seconds"), meter.create_histogram("tokens")
    cost = meter.create_counter("cost")

    def tell() -> float:
        started = time.thread_time()
        for _ in range(count):
            at = time.time_ns()
            tracer.start_span(
                "chat gpt-4o", get_current(), SpanKind.CLIENT, SPAN, start_time=at
            ).end()
            seconds.record(0.5, POINT)
            tokens.record(12, POINT | {"type": "input"})
            tokens.record(20, POINT | {"type": "output"})
            cost.add(0.1, POINT)
        return (time.thread_time() - started) / count * 1e6

    return tell


def _tracers() -> TracerProvider:
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Nothing()))
    return tracers
