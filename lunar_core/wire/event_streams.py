"""Reads a whole event stream that came in reply to a call without ``stream``: it was paid for."""

from __future__ import annotations

from lunar_core.errors import APIStreamError
from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.wire import events
from lunar_core.wire.deltas import Assembly
from lunar_core.wire.sse import SSEDecoder
from lunar_core.wire.text import SurrogateJoiner

_BEGINNINGS = (b"data:", b"event:", b":")


def is_event_stream(payload: bytes) -> bool:
    """Whether ``payload`` begins like server-sent events, which no JSON does."""
    return payload.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_BEGINNINGS)


def put_together(payload: bytes, kind: type[ChatCompletion | Completion]) -> dict[str, object]:
    """Assemble the completion from the events, as decoded JSON.

    Raises what reading a stream would raise: APIStreamError for a malformed chunk or an early end, and the error of an
    error event.
    """
    decoder, joiner, assembly = SSEDecoder(), SurrogateJoiner(), Assembly(kind)
    for data in map(joiner.feed, [*decoder.feed(payload), *decoder.flush()]):
        mended = events.mend(data)
        if events.plain_chunk(mended) is not None:
            assembly.feed(mended)
    if decoder.error is not None:
        raise events.make_event_error(decoder.error)
    if not (decoder.done or assembly.finished) or not assembly.has_content:
        raise APIStreamError(
            "the stream ended before its answer did: no finish_reason and no [DONE]"
        )
    return assembly.value()
