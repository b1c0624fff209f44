"""A telemetry whose spans and metrics stay in memory."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lunar_core import Lunar
from lunar_core.otel import LunarTelemetry

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
