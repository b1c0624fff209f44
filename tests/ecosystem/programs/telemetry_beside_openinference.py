"""The spans of routed calls where OpenInference traces the framework and LunarTelemetry the client, as JSON by way.

The word says which framework: langchain or llama_index.
"""

import asyncio
import json
import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lunar_core.otel import LunarTelemetry

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
telemetry = LunarTelemetry(provider)


def ways_of_langchain():
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from ways_of_langchain import WAYS, new_model

    LangChainInstrumentor().instrument(tracer_provider=provider)
    return {
        name: lambda ask=ask: ask(new_model(observers=[telemetry]), {})
        for name, ask in WAYS.items()
    }


def ways_of_llama_index():
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
    from ways_of_llama_index import WAYS, new_llm

    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    return {name: lambda ask=ask: ask(new_llm(observers=[telemetry])) for name, ask in WAYS.items()}


async def main():
    shown = {}
    for way, ask in globals()[f"ways_of_{sys.argv[1]}"]().items():
        exporter.clear()
        await ask()
        shown[way] = [
            {
                "cost": span.attributes["llm.cost.total"],
                "route": span.attributes.get("lunar.routing.selected_model"),
            }
            for span in exporter.get_finished_spans()
            if "llm.cost.total" in span.attributes
        ]
    sys.stdout.write(json.dumps(shown))


asyncio.run(main())
