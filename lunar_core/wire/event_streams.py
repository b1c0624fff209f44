"""A whole event stream in reply to a call that asked for none: it was paid for, and is put together."""

from __future__ import annotations

from lunar_core.errors import APIStreamError
from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.wire import events
from lunar_core.wire.deltas import Assembly
from lunar_core.wire.sse import SSEDecoder
from lunar_core.wire.text import SurrogateJoiner

_BEGINNINGS = (b"data:", b"event:", b":")


def is_event_stream(payload: bytes) -> bool:
    """Whether ``payload`` begins as server-sent events do, and as no JSON does."""
    return payload.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_BEGINNINGS)


def put_together(payload: bytes, kind: type[ChatCompletion | Completion]) -> dict[str, object]:
    """The completion that the events amount to, as JSON would have it.

    Raises APIStreamError for what a stream would have raised: an error event, a malformed chunk, an early end.
    """
    decoder, joiner, assembly = SSEDecoder(), SurrogateJoiner(), Assembly(kind)
    for data in map(joiner.feed, [*decoder.feed(payload), *decoder.flush()]):
        if events.plain_chunk(data) is not None:
            assembly.feed(data)
    if decoder.error is not None:
        raise events.make_event_error(decoder.error)
    if not (decoder.done or assembly.finished) or not assembly.has_content:
        raise APIStreamError(
            "the stream ended before its answer did: no finish_reason and no [DONE]"
        )
    return assembly.value()
