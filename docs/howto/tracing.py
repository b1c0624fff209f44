"""Traces of OpenTelemetry with cost and route, and log lines without a prompt in them."""

import logging

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lunar_core import Lunar
from lunar_core.otel import LunarTelemetry

spans = InMemorySpanExporter()  # in a service: an exporter of yours
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))

# The same as LUNAR_LOG=info in the environment, for a program that has handlers of its own.
lines: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("lunar_core").addHandler(handler)
logging.getLogger("lunar_core").setLevel(logging.INFO)

client = Lunar(observers=[LunarTelemetry(tracer_provider=provider)])
client.chat.completions.create(
    model="router", messages=[{"role": "user", "content": "What is a compiler?"}]
)

(span,) = spans.get_finished_spans()
print(span.name)
for name in (
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "llm.cost.total",
    "lunar.routing.selected_model",
):
    print(f"  {name} = {(span.attributes or {})[name]}")
print(f"log lines at INFO: {len(lines)}; with the prompt in them: {'compiler' in ' '.join(lines)}")
