"""Tools that trace httpx see each call of ours, and their headers arrive: whenever they are switched on."""

import re

import pytest

HEADERS = {
    "with_opentelemetry": ("traceparent",),
    "with_logfire": ("traceparent",),
    "with_sentry": ("sentry-trace", "baggage"),
    "with_ddtrace": ("x-datadog-trace-id", "x-datadog-parent-id", "traceparent"),
}
WAYS = ["acall_plain", "acall_streamed", "call_plain", "call_streamed"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("program", HEADERS)
def test_each_call_has_its_span_and_its_headers_arrive(program, when, run_program, lunar_sandbox):
    seen = run_program(
        program,
        when,
        DD_TRACE_STARTUP_LOGS="false",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
    )
    traces = [seen["traces"][way] for way in WAYS]
    assert seen["http_spans"] == traces
    calls = lunar_sandbox.requests()[-len(WAYS) :]
    for call, trace in zip(calls, traces, strict=True):
        for name in HEADERS[program]:
            assert call["headers"].get(name), f"{name} did not arrive"
        assert trace_in(call["headers"]) == trace


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_where_a_frameworks_tracer_has_a_span_for_a_call_ours_makes_no_second(
    framework, run_program, lunar_sandbox
):
    """Costs would be added up twice."""
    shown = run_program("telemetry_beside_openinference", framework)
    assert len(shown) in {4, 6}
    for way, spans in shown.items():
        assert [span["route"] is not None for span in spans] == [True], way
    costs = [span["cost"] for spans in shown.values() for span in spans]
    assert sum(costs) == pytest.approx(float(lunar_sandbox.total_billed()))


def trace_in(headers):
    """The trace's id as the propagation headers of these tools carry it: 32 hex digits."""
    if "sentry-trace" in headers:
        return headers["sentry-trace"].partition("-")[0]
    return re.fullmatch(
        r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", headers["traceparent"]
    ).group(1)
