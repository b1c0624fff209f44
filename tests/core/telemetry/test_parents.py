"""A span stands where its call began, and a framework's own span of the call takes its place."""

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan

from lunar_core.observers import within_span
from tests.core.telemetry.conftest import HELLO


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


def test_a_current_span_that_has_ended_is_only_a_parent(recorder, new_client):
    tracer = recorder.tracers.get_tracer("framework")
    kind = {"openinference.span.kind": "LLM"}
    with tracer.start_as_current_span("ended", attributes=kind, end_on_exit=False) as span:
        span.end()
        new_client(recorder.telemetry).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    ended, ours = recorder.spans()
    assert (ended.name, ours.name) == ("ended", "chat gpt-4o-mini")
    assert ours.parent.span_id == ended.context.span_id


def test_a_streams_parent_is_the_span_in_which_it_began(recorder, new_client):
    tracer = recorder.tracers.get_tracer("framework")
    with tracer.start_as_current_span("outer"):
        stream = new_client(recorder.telemetry).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True
        )
    stream.get_final_completion()
    outer, ours = recorder.spans()
    assert ours.parent.span_id == outer.context.span_id


def test_a_span_is_as_long_as_its_call(recorder, new_client):
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini!slow=0.05", messages=HELLO
    )
    span = recorder.span()
    seconds = (span.end_time - span.start_time) / 1e9
    (duration,) = recorder.metrics()["gen_ai.client.operation.duration"]
    assert seconds == pytest.approx(duration.sum)
    assert seconds >= answer.call.latency_ms / 1000 >= 0.05


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
