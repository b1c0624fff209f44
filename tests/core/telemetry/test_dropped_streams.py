"""A stream that its reader dropped has its span, wherever the garbage collector finds it."""

import gc
import threading
import time

from opentelemetry.sdk.trace import SpanProcessor

from lunar_core.client import own_thread
from tests.core.telemetry.conftest import HELLO


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
