"""What OpenInference's spans (Phoenix, Langfuse) show of routed calls that LlamaIndex makes, by endpoint."""

import asyncio
import json
import os
import sys

from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ways_of_llama_index import WAYS, new_llm

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
LlamaIndexInstrumentor().instrument(tracer_provider=provider)


async def main():
    shown = {}
    for way, ask in WAYS.items():
        last = await ask(new_llm())
        spans = {span.name: span for span in exporter.get_finished_spans()}
        span = spans[f"LunarLLM.{way}"]
        shown[way] = {
            "model": span.attributes.get("llm.model_name"),
            "cost": span.attributes.get("llm.cost.total"),
            "stated": {
                name: last.additional_kwargs.get(name) for name in ("model", "total_cost_usd")
            },
            "has_key": os.environ["LUNAR_API_KEY"] in span.to_json(),
        }
    sys.stdout.write(json.dumps(shown))


asyncio.run(main())
