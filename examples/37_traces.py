"""Traces with cost and route: one span for each call, beside the spans of the program that makes them.

    python examples/37_traces.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/37_traces.py --live      on the hosted service: this costs money

The spans stay in memory here; an exporter of yours sends them wherever you look at traces. Needs the extra ``otel``
and the package opentelemetry-sdk. Offline, the sandbox answers: its texts are made up by a rule, its prices resemble
the providers’ own.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from service import service, usd

from lunar_core import BREAK_TIES, Lunar
from lunar_core.otel import LunarTelemetry

QUESTIONS = ["Write a haiku about rain.", "Prove that 7 is prime."]


def main() -> None:
    """Trace a program that asks two questions, and show its spans."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        Lunar(observers=[LunarTelemetry(tracers)]) as client,
        tracers.get_tracer("example").start_as_current_span("answer both"),
    ):
        for question in QUESTIONS:
            client.chat.completions.create(
                model="router",
                cost_weight=BREAK_TIES,
                messages=[{"role": "user", "content": question}],
            )
    for span in exporter.get_finished_spans():
        attributes = dict(span.attributes or {})
        place = "  in the program's own" if span.parent is not None else ""
        print(f"{span.name}{place}")
        if "gen_ai.provider.name" in attributes:
            print(f"  chosen: {attributes['lunar.routing.selected_model']}")
            tokens = [attributes[f"gen_ai.usage.{kind}_tokens"] for kind in ("input", "output")]
            print(f"  tokens: {tokens[0]} in, {tokens[1]} out")
            cost = attributes.get("llm.cost.total")
            print(f"  cost: {usd(cost if isinstance(cost, float) else None)}")


if __name__ == "__main__":
    with service():
        main()
