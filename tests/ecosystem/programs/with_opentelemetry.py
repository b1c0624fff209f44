"""OpenTelemetry's instrumentation of httpx, switched on as its page says."""

from contextlib import contextmanager

import ways
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()


class Tool:
    def switch_on(self):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
        trace.set_tracer_provider(provider)
        HTTPXClientInstrumentor().instrument()

    @contextmanager
    def span(self, name):
        with trace.get_tracer("program").start_as_current_span(name) as span:
            yield f"{span.get_span_context().trace_id:032x}"

    def http_spans(self):
        return [
            f"{span.context.trace_id:032x}"
            for span in EXPORTER.get_finished_spans()
            if span.kind is trace.SpanKind.CLIENT
        ]


ways.main(Tool())
