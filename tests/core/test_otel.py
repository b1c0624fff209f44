"""Spans and metrics of OpenTelemetry: one span a call, with its tokens, its cost and its route, and no text unasked."""

import asyncio
import gc
import json
import threading
import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanKind, StatusCode

from lunar_core import (
    AsyncLunar,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    Lunar,
    LunarError,
    Prices,
)
from lunar_core.client import own_thread
from lunar_core.observers import within_span
from lunar_core.otel import LunarTelemetry
from lunar_core.wire.catalogue import Model
from tests.faults_steps import completion, reply

SECRET = "the-words-of-this-test"
HELLO = [{"role": "user", "content": f"Say hello to {SECRET}"}]


class Recorder:
    """A telemetry whose spans and metrics stay in memory."""

    def __init__(self, **settings):
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader])
        self.telemetry = LunarTelemetry(self.tracers, meters, **settings)

    def spans(self):
        return self._exporter.get_finished_spans()

    def span(self):
        (span,) = self.spans()
        return span

    def instruments(self):
        """Each metric, by name."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def metrics(self):
        """Each metric's points, by name."""
        return {name: list(metric.data.data_points) for name, metric in self.instruments().items()}


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def new_client(lunar_sandbox):
    def new(*observers, **settings):
        return Lunar(
            lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=observers, **settings
        )

    return new


def test_a_call_is_one_client_span_with_its_tokens_and_its_bill(recorder, new_client):
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, temperature=0.5, max_tokens=50, stop=["END"]
    )
    span = recorder.span()
    assert (span.name, span.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lunar",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.stream": False,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": (answer.choices[0].finish_reason,),
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "llm.cost.total": answer.usage.total_cost_usd,
        "llm.cost.prompt": answer.usage.input_cost_usd,
        "llm.cost.completion": answer.usage.output_cost_usd,
        "lunar.call_id": answer.call.call_id,
    }
    assert expected.items() <= dict(span.attributes).items()


def test_a_parameters_type_is_the_conventions_whatever_the_callers(recorder, new_client):
    new_client(recorder.telemetry).chat.completions.create(
        model="router",
        messages=HELLO,
        cost_weight=5,
        temperature=1,
        top_p=1,
        max_completion_tokens=20,
        seed=3,
        stop="END",
    )
    attributes = recorder.span().attributes
    values = {
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "lunar.cost_weight": 5.0,
    }
    assert values.items() <= dict(attributes).items()
    assert {name: type(attributes[name]) for name in values} == {
        name: type(value) for name, value in values.items()
    }


def test_what_is_unknown_is_absent(recorder, fault_server):
    usage = {"prompt_tokens": 3, "total_cost_usd": None, "completion_tokens_details": {}}
    fault_server.always(reply(json=completion(usage=usage)))
    client = Lunar("pk_test_1234", base_url=fault_server.origin, observers=[recorder.telemetry])
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    names = recorder.span().attributes.keys()
    stated = {name for name in names if name.startswith(("gen_ai.usage.", "llm.cost.", "lunar."))}
    assert stated == {"gen_ai.usage.input_tokens", "lunar.call_id"}
    assert "lunar.client.cost" not in recorder.metrics()


def test_no_text_is_recorded_unless_asked(new_client):
    for asked in (False, True):
        recorder = Recorder(record_content=asked)
        answer = new_client(recorder.telemetry).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO
        )
        text = json.dumps(dict(recorder.span().attributes), default=str)
        assert (SECRET in text, answer.choices[0].message.content in text) == (asked, asked)


def test_content_has_the_conventions_form(new_client):
    recorder = Recorder(record_content=True)
    answer = new_client(recorder.telemetry).completions.create(model="gpt-4o-mini", prompt="Once")
    attributes = recorder.span().attributes
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Once"}]}
    ]
    (message,) = json.loads(attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": answer.choices[0].text}]
    assert recorder.span().name == "text_completion gpt-4o-mini"


@pytest.mark.parametrize("extra", [{}, {"stop": ["END"]}], ids=["one request", "decide first"])
def test_a_routed_call_is_one_span_with_its_route(recorder, new_client, extra):
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="router", messages=HELLO, cost_weight=5.0, **extra
    )
    span = recorder.span()
    assert span.name == "chat router"
    assert span.attributes["lunar.routing.selected_model"] == answer.routing.selected_model
    assert span.attributes["lunar.routing.expected_error"] == answer.routing.expected_error
    assert span.attributes["lunar.cost_weight"] == 5.0
    assert span.attributes["gen_ai.response.model"] == answer.model


def test_a_decision_alone_is_a_span_of_its_own_kind(recorder, new_client):
    new_client(recorder.telemetry).router.decide(messages=HELLO)
    assert recorder.span().attributes["gen_ai.operation.name"] == "route"


async def test_a_stream_tells_when_its_first_content_came(recorder, lunar_sandbox):
    async with AsyncLunar(
        lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=[recorder.telemetry]
    ) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, stream_usage=True
        )
        async for _ in stream:
            pass
    span = recorder.span()
    assert span.attributes["gen_ai.request.stream"] is True
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert first == stream.call.ttft_ms / 1000
    assert span.attributes["llm.cost.total"] == stream.usage.total_cost_usd
    (point,) = recorder.metrics()["gen_ai.client.operation.time_to_first_chunk"]
    assert point.sum == first


def test_a_failure_is_named_by_its_class(recorder, new_client):
    with pytest.raises(BadRequestError):
        new_client(recorder.telemetry).chat.completions.create(
            model="gpt-4o-mini!400", messages=HELLO
        )
    span = recorder.span()
    assert span.attributes["error.type"] == "BadRequestError"
    assert span.status.status_code is StatusCode.ERROR
    assert "llm.cost.total" not in span.attributes
    (duration,) = recorder.metrics()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "BadRequestError"


class Refusing:
    def before(self, call):
        raise BudgetExceededError("no more")

    def after(self, outcome):
        raise AssertionError("never told")


def test_a_call_that_a_later_observer_refuses_is_named_too(recorder, new_client):
    with pytest.raises(LunarError):
        new_client(recorder.telemetry, Refusing()).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO
        )
    assert recorder.span().attributes["error.type"] == "BudgetExceededError"


@pytest.mark.parametrize(
    "kind",
    [
        {"openinference.span.kind": "LLM"},
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": "text_completion"},
        {"gen_ai.operation.name": "generate_content"},
    ],
    ids=str,
)
def test_a_frameworks_own_span_gets_cost_and_route_in_place_of_a_second(recorder, new_client, kind):
    tracer = recorder.tracers.get_tracer("framework")
    with tracer.start_as_current_span("ChatLunar", attributes=kind):
        answer = new_client(recorder.telemetry).chat.completions.create(
            model="router", messages=HELLO
        )
    span = recorder.span()
    assert span.name == "ChatLunar"
    assert span.attributes["llm.cost.total"] == answer.usage.total_cost_usd
    assert span.attributes["lunar.routing.selected_model"] == answer.routing.selected_model


def test_so_does_one_that_a_framework_knows_and_has_not_made_current(recorder, new_client):
    span = recorder.tracers.get_tracer("framework").start_span("ChatLunar")
    with within_span(lambda: span):
        answer = new_client(recorder.telemetry).chat.completions.create(
            model="router", messages=HELLO
        )
    span.end()
    assert recorder.span().name == "ChatLunar"
    assert span.attributes["llm.cost.total"] == answer.usage.total_cost_usd


@pytest.mark.parametrize(
    "found", [None, "no span", NonRecordingSpan(INVALID_SPAN_CONTEXT)], ids=str
)
def test_where_it_knows_none_that_is_recorded_the_span_is_ours(found, recorder, new_client):
    with within_span(lambda: found):
        new_client(recorder.telemetry).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert recorder.span().name == "chat gpt-4o-mini"


def test_nothing_is_written_on_a_span_that_has_ended(recorder, new_client, caplog):
    span = recorder.tracers.get_tracer("framework").start_span("ChatLunar")
    client = new_client(recorder.telemetry)
    with within_span(lambda: span):
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
    span.end()
    stream.close()
    assert recorder.span().name == "ChatLunar"
    assert caplog.records == []


@pytest.mark.parametrize(
    "kind",
    [{"openinference.span.kind": "AGENT"}, {"gen_ai.operation.name": "execute_tool"}, {}],
    ids=str,
)
def test_an_agents_or_a_tools_span_is_a_parent(recorder, new_client, kind):
    tracer = recorder.tracers.get_tracer("framework")
    with tracer.start_as_current_span("outer", attributes=kind):
        new_client(recorder.telemetry).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    ours, outer = recorder.spans()
    assert (ours.name, outer.name) == ("chat gpt-4o-mini", "outer")
    assert ours.parent.span_id == outer.context.span_id


def test_metrics_add_up_tokens_time_and_cost(recorder, new_client):
    client = new_client(recorder.telemetry)
    answers = [
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO) for _ in range(3)
    ]
    metrics = recorder.metrics()
    (cost,) = metrics["lunar.client.cost"]
    assert cost.value == pytest.approx(sum(answer.usage.total_cost_usd for answer in answers))
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in metrics["gen_ai.client.token.usage"]
    }
    assert tokens == {
        "input": sum(answer.usage.prompt_tokens for answer in answers),
        "output": sum(answer.usage.completion_tokens for answer in answers),
    }
    (duration,) = metrics["gen_ai.client.operation.duration"]
    assert duration.count == 3


def test_metrics_have_the_conventions_units_and_buckets(recorder, new_client):
    stream = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, stream_usage=True
    )
    stream.get_final_completion()
    instruments = recorder.instruments()
    assert {name: metric.unit for name, metric in instruments.items()} == {
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "lunar.client.cost": "{USD}",
    }
    bounds = {
        name: list(points[0].explicit_bounds)
        for name, points in recorder.metrics().items()
        if name != "lunar.client.cost"
    }
    tokens = bounds.pop("gen_ai.client.token.usage")
    assert (tokens[:4], tokens[-1], len(tokens)) == ([1, 4, 16, 64], 67_108_864, 14)
    for seconds in bounds.values():
        assert (seconds[0], seconds[-1], len(seconds)) == (0.01, 81.92, 14)
        assert seconds[1:] == pytest.approx([2 * bound for bound in seconds[:-1]])
    assert instruments["lunar.client.cost"].data.is_monotonic


async def test_a_call_that_was_cancelled_names_no_model_that_answered(recorder, lunar_sandbox):
    async with AsyncLunar(
        lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=[recorder.telemetry]
    ) as client:
        call = asyncio.create_task(
            client.chat.completions.create(model="gpt-4o-mini!slow=5", messages=HELLO)
        )
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert "gen_ai.response.model" not in recorder.span().attributes
    (duration,) = recorder.metrics()["gen_ai.client.operation.duration"]
    assert "gen_ai.response.model" not in duration.attributes


def test_an_estimate_is_told_apart_from_a_bill(lunar_sandbox_factory):
    prices = Prices.of([Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6)])
    recorder = Recorder(prices=prices)
    box = lunar_sandbox_factory(dialect="observed")
    client = Lunar(box.api_key, base_url=box.url, observers=[recorder.telemetry])
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True):
        pass
    attributes = recorder.span().attributes
    assert attributes["lunar.cost.estimated"] > 0
    assert "llm.cost.total" not in attributes


def drop(stream):
    """Leave a stream to the garbage collector, in a cycle as tracebacks make them."""
    cycle = [stream]
    cycle.append(cycle)


def test_a_dropped_stream_has_its_span_when_the_collector_has_ended(recorder, new_client):
    stream = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True
    )
    next(stream)
    drop(stream)
    del stream
    gc.collect()
    span = recorder.span()
    assert span.attributes["gen_ai.request.stream"] is True
    assert "error.type" not in span.attributes


class LockedProcessor(SpanProcessor):
    """Drops a stream inside OpenTelemetry's own code, with a lock held as its processors and readers hold theirs."""

    def __init__(self, drop):
        self._lock, self._drop = threading.Lock(), drop
        self.is_locked_out, self.threads = [], []

    def on_end(self, span):
        self.threads.append(threading.get_ident())
        is_free = self._lock.acquire(timeout=5)
        self.is_locked_out.append(not is_free)
        if is_free:
            self._drop()
            self._lock.release()


def test_a_stream_that_the_collector_finds_inside_opentelemetry_is_told_of_too(
    recorder, new_client, monkeypatch
):
    monkeypatch.setattr(own_thread, "WAIT_SECONDS", 0.1)
    held = []

    def drop():
        held.clear()
        gc.collect()

    processor = LockedProcessor(drop)
    recorder.tracers.add_span_processor(processor)
    client = new_client(recorder.telemetry)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Count to fifty."}], stream=True
    )
    next(stream)
    cycle = [stream]
    cycle.append(cycle)
    held.append(cycle)
    del stream, cycle
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    until = time.monotonic() + 10
    while len(processor.is_locked_out) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    streamed = [span.attributes["gen_ai.request.stream"] for span in recorder.spans()]
    assert sorted(streamed) == [False, True]
    assert processor.is_locked_out == [False, False]
    own, other = processor.threads
    assert own == threading.get_ident() != other


def test_what_cannot_work_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="record_content"):
        LunarTelemetry(record_content="yes")
    with pytest.raises(ConfigurationError, match="prices"):
        LunarTelemetry(prices={})
