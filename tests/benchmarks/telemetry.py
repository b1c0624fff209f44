"""What a call pays for its span and its metrics, where the exporter does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from lab import Lab
from ledgers import make_outcomes
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from report import Row

from lunar_core import CallStart
from lunar_core.otel import LunarTelemetry

CALLS = 10_000


class Nothing(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def span(lab: Lab, line: str) -> Iterator[Row]:
    """``before`` and ``after`` of each call, on its own thread."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Nothing()))
    telemetry = LunarTelemetry(tracers, MeterProvider())
    outcomes = make_outcomes(0, lab.count(CALLS))
    starts = [
        CallStart(outcome.call.call_id, outcome.endpoint, outcome.model, {"model": outcome.model})
        for outcome in outcomes
    ]
    taken = []
    for _ in range(lab.rounds):
        started = time.thread_time()
        for start, outcome in zip(starts, outcomes, strict=True):
            telemetry.before(start)
            telemetry.after(outcome)
        taken.append((time.thread_time() - started) / len(outcomes) * 1e6)
    yield Row(line, "no-op exporter", "µs a call", statistics.median(taken), 40.0)
