"""Cost and route on the spans of tracers: OpenInference, and one that is made by hand."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from llama_index.core import Document, VectorStoreIndex
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index_lunar import lunar_cost
from lunar_core import LunarError
from tests.faults_steps import chunk, hang, reply, sse
from tests.llama_index.support import ENDPOINTS, STREAMS, ask, until, user

# OpenInference asks pydantic in words of its version 1.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def openinference(provider):
    """The instrumentor that Phoenix and Langfuse tell their users to switch on."""
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield
    instrumentor.uninstrument()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_costs_stand_on_openinferences_span(
    endpoint, openinference, exporter, llm, lunar_sandbox
):
    await ask(llm, endpoint)
    (bill,) = lunar_sandbox.billed(at_least=1)
    (span,) = exporter.get_finished_spans()
    found = span.attributes
    assert span.name == f"LunarLLM.{endpoint}"
    assert found["openinference.span.kind"] == "LLM"
    assert found["llm.cost.total"] == bill["total_cost_usd"]
    assert found["llm.cost.prompt"] == bill["input_cost_usd"]
    assert found["llm.cost.completion"] == bill["output_cost_usd"]
    assert found["llm.token_count.prompt"] == bill["prompt_tokens"]
    assert found["llm.token_count.completion"] == bill["completion_tokens"]
    assert found.get("llm.finish_reason", "stop") == "stop"  # older versions don't tell it
    assert json.loads(found["metadata"])["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stop", [None, ["nothing"]], ids=["one request", "decided first"])
async def test_the_route_stands_on_openinferences_span(
    endpoint, stop, openinference, exporter, router
):
    last = (await ask(router, endpoint, "Prove it", stop=stop))[-1]
    (span,) = exporter.get_finished_spans()
    metadata = json.loads(span.attributes["metadata"])
    assert metadata["routing"] == last.additional_kwargs["routing"]
    assert metadata["model"] == span.attributes["llm.model_name"] == "gpt-4-turbo"
    assert metadata["requested_model"] == "router"
    assert span.attributes["llm.cost.total"] == last.additional_kwargs["total_cost_usd"]


async def test_the_callers_own_metadata_stays(openinference, exporter, llm):
    with using_attributes(metadata={"order": 7}):
        await ask(llm, "stream_chat")
    metadata = json.loads(exporter.get_finished_spans()[0].attributes["metadata"])
    assert metadata["order"] == 7
    assert metadata["call_id"]


async def test_no_warning_is_logged_for_our_own_event(openinference, llm, caplog, recorder):
    for endpoint in ("chat", "astream_chat"):
        await ask(llm, endpoint)
    assert len(recorder.usage) == 2
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_neither_key_nor_headers_are_on_a_span(
    openinference, exporter, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, api_key="pk_test_hidden", default_headers={"x-a": "hidden"})
    for endpoint in ENDPOINTS:
        await ask(llm, endpoint)
    assert "hidden" not in str([span.to_json() for span in exporter.get_finished_spans()])


async def test_a_call_that_failed_has_a_span_without_costs(openinference, exporter, llm_on, faults):
    faults.always(reply(400, json={"detail": "no"}))
    with pytest.raises(LunarError):
        await ask(llm_on(faults), "achat")
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok
    assert "llm.cost.total" not in span.attributes


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_a_stream_that_is_left_ends_its_span(
    endpoint, openinference, exporter, llm_on, faults
):
    faults.always(sse(chunk("a"), hang))
    llm = llm_on(faults)
    said = "hi" if "complete" in endpoint else user("hi")
    stream = getattr(llm, endpoint)(said)
    if endpoint.startswith("a"):
        stream = await stream
        await anext(stream)
        await stream.aclose()
    else:
        next(stream)
        stream.close()
    await until(exporter.get_finished_spans)
    assert [span.name for span in exporter.get_finished_spans()] == [f"LunarLLM.{endpoint}"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_query_engines_stream_is_booked_where_the_query_was_made(
    asynchronous, openinference, exporter, llm, lunar_sandbox
):
    engine = VectorStoreIndex.from_documents([Document(text="Mars has two moons")]).as_query_engine(
        llm=llm, streaming=True
    )
    with lunar_cost() as costs:
        answer = await engine.aquery("Moons?") if asynchronous else engine.query("Moons?")
    with lunar_cost() as others:
        if asynchronous:
            assert "".join([token async for token in answer.response_gen])
        else:
            assert "".join(answer.response_gen)
    assert len(others.ledger) == 0
    assert costs.total_cost == lunar_sandbox.total_billed() > 0
    costs_told = [s.attributes.get("llm.cost.total") for s in exporter.get_finished_spans()]
    assert sum(cost is not None for cost in costs_told) == 1


class HandMade(SimpleSpanHandler):
    """A tracer as others write them: a span for each of LlamaIndex's, current while the method runs."""

    def __init__(self, tracer):
        super().__init__()
        self.__dict__["tracer"] = tracer
        self.__dict__["running"] = {}

    def new_span(self, id_, *args, **kwargs):
        span = self.tracer.start_span(id_)
        token = context.attach(trace.set_span_in_context(span))
        self.running[id_] = (span, token)
        return super().new_span(id_, *args, **kwargs)

    def prepare_to_exit_span(self, id_, *args, **kwargs):
        span, token = self.running.pop(id_)
        context.detach(token)
        span.end()
        return super().prepare_to_exit_span(id_, *args, **kwargs)


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name not in STREAMS])
async def test_any_tracer_that_makes_its_span_current_gets_the_costs(
    endpoint, provider, exporter, llm, lunar_sandbox
):
    handler = HandMade(provider.get_tracer("by hand"))
    handlers = get_dispatcher().span_handlers
    handlers.append(handler)
    try:
        await ask(llm, endpoint)
    finally:
        handlers.remove(handler)
    (span,) = [s for s in exporter.get_finished_spans() if endpoint in s.name]
    assert span.attributes["llm.cost.total"] == lunar_sandbox.billed()[0]["total_cost_usd"]


async def test_a_span_of_the_callers_own_is_left_alone(provider, exporter, llm):
    with provider.get_tracer("web").start_as_current_span("GET /ask"):
        for endpoint in ENDPOINTS:
            await ask(llm, endpoint)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes) == {}


def test_without_a_tracer_opentelemetry_is_not_loaded(lunar_sandbox):
    code = (
        "import sys\n"
        "from llama_index_lunar import LunarLLM\n"
        "llm = LunarLLM('gpt-4o-mini', api_key=sys.argv[1], api_base=sys.argv[2])\n"
        "before = 'opentelemetry' in sys.modules\n"
        "print(llm.complete('Say hi').text, 'opentelemetry' in sys.modules and not before)\n"
    )
    command = [sys.executable, "-c", code, lunar_sandbox.api_key, lunar_sandbox.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["hi", "False"]
