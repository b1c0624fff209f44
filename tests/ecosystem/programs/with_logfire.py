"""Pydantic Logfire, switched on as its page says; nothing is sent to its service."""

from contextlib import contextmanager

import logfire
import ways
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()


class Tool:
    def switch_on(self):
        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[SimpleSpanProcessor(EXPORTER)],
        )
        logfire.instrument_httpx()

    @contextmanager
    def span(self, name):
        with logfire.span(name):
            yield f"{trace.get_current_span().get_span_context().trace_id:032x}"

    def http_spans(self):
        return [
            f"{span.context.trace_id:032x}"
            for span in EXPORTER.get_finished_spans()
            if span.kind is trace.SpanKind.CLIENT
        ]


ways.main(Tool())
