"""What a tracer that keeps spans of OpenTelemetry shows of routed calls that LangChain makes, as JSON by way.

The word says which: openinference, openllmetry or langfuse.
"""

import asyncio
import json
import os
import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ways_of_langchain import WAYS, new_model, stated

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))


def start_openinference():
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=provider)
    return [], "llm.model_name", lambda attributes: attributes.get("llm.cost.total")


def start_openllmetry():
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=provider)
    return [], "gen_ai.response.model", lambda attributes: attributes.get("gen_ai.usage.cost")


def start_langfuse():
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    Langfuse(
        public_key="pk-lf-1",
        secret_key="sk-lf-1",  # nobody's
        host="http://127.0.0.1:9",
        tracer_provider=provider,
        span_exporter=exporter,
    )

    def cost(attributes):
        return json.loads(attributes.get("langfuse.observation.cost_details", "{}")).get("total")

    return [CallbackHandler(public_key="pk-lf-1")], "langfuse.observation.model.name", cost


async def main(tool):
    callbacks, model_name, cost_of = globals()[f"start_{tool}"]()
    shown = {}
    for way, ask in WAYS.items():
        exporter.clear()
        message = await ask(new_model(), {"callbacks": callbacks})
        provider.force_flush()
        spans = [span for span in exporter.get_finished_spans() if model_name in span.attributes]
        attributes = spans[-1].attributes
        shown[way] = {
            "model": attributes[model_name],
            "cost": cost_of(attributes),
            "stated": stated(message),
            "has_key": any(os.environ["LUNAR_API_KEY"] in span.to_json() for span in spans),
        }
    sys.stdout.write(json.dumps(shown))


asyncio.run(main(sys.argv[1]))
