"""Streamed answers: pieces become events, events become bytes, and the sent pieces are billed.

The bill is written before the last bytes leave, so that a client that has read its answer finds
it in the log. A client that hangs up is billed for the pieces sent so far.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response
from typing_extensions import override

from lunar_core.sandbox.connections import HangUpError, abort, gone
from lunar_core.sandbox.faults import Fault, error_body
from lunar_core.sandbox.sources import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

    from lunar_core.sandbox.answers import Piece
    from lunar_core.sandbox.bills import Bill
    from lunar_core.sandbox.dialects import Documented, Head

Event = tuple[bytes, Literal["opening", "content", "end"]]

DONE = b"data: [DONE]\n\n"
_MIDDLE = 2
"""Pieces of content before a fault in the middle, unless its value states another number. At least
one comes, because a failure before any content is another fault."""


def encode(event: Mapping[str, Any]) -> bytes:
    """Write one server-sent event."""
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


async def events(
    dialect: Documented,
    head: Head,
    pieces: AsyncGenerator[Piece, None],
    *,
    choices: int,
    style: str,
    bill: Bill,
) -> AsyncGenerator[Event, None]:
    """Form the events of a stream, and bill them.

    The bill is closed before the last piece leaves, or when the stream is closed before that. ``pieces``: what is
    generated; the last of them has the last ``finish_reason``. ``choices``: how many answers are given at once, each
    with a ``finish_reason``. ``style``: where usage goes: on the ``last`` chunk with choices, on a ``closing`` chunk
    without any, on ``every`` chunk, or ``none``.
    """
    unfinished = choices
    try:
        for chunk in dialect.opening(head, choices):
            yield encode(chunk), "opening"
        async with aclosing(pieces):
            async for piece in pieces:
                bill.add(piece)
                unfinished -= piece.finish_reason is not None
                if unfinished == 0:
                    bill.close(usage_sent=style != "none")
                shows_usage = style == "every" or (style == "last" and unfinished == 0)
                usage = bill.usage(dialect) if shows_usage else None
                yield encode(dialect.chunk(head, piece, usage)), "content" if piece.delta else "end"
        if style == "closing":
            yield encode(dialect.closing(head, bill.usage(dialect))), "end"
        yield DONE, "end"
    except SourceError as error:
        bill.close(aborted=True)
        yield encode(dialect.error_event(head, str(error))), "end"
        if dialect.done_after_error:
            yield DONE, "end"
    finally:
        bill.close(aborted=True)


async def interrupt(
    fault: Fault,
    stream: AsyncGenerator[Event, None],
    error: Mapping[str, Any],
    *,
    done_after_error: bool,
) -> AsyncGenerator[Event, None]:
    """Pass a stream on up to its fault, then apply the fault.

    A stream that fails at its first event is never begun, and costs nothing. Raises HangUpError where the connection is
    to be closed.
    """
    kind, _, place = fault.name.rpartition("-")
    if place != "first":
        async with aclosing(_until_fault(fault, stream)) as events_before:
            async for event in events_before:
                yield event
    if (body := error_body(fault, error)) is not None:
        yield encode(body), "end"
        if done_after_error and kind == "error":
            yield DONE, "end"
    elif fault.name == "hang-mid":
        await asyncio.Event().wait()
    elif fault.name in ("hangup-mid", "reset-mid"):
        raise HangUpError(reset=kind == "reset")
    elif fault.name == "malformed":
        yield b'data: {"id": "chatcmpl", "choices": [{"index": 0, "delta": {"cont\n\n', "end"
        yield DONE, "end"
    elif fault.name == "truncated":
        yield b'data: {"id": "chatcmpl", "choices": [{"ind', "end"


async def _until_fault(
    fault: Fault, stream: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    middle = fault.name.endswith("-mid") or fault.name in ("malformed", "truncated")
    left = max(int(_MIDDLE if fault.value is None else fault.value), 1)
    async with aclosing(stream):
        async for event, part in stream:
            if middle and part == "end":
                return
            if fault.name != "no-done" or event != DONE:
                yield event, part
            left -= part == "content"
            if middle and left == 0:  # Before the next piece: it would be generated, and billed.
                return


class EventStream(Response):
    """Sends events as they come. When the client closes the connection, it closes their source."""

    media_type = "text/event-stream"

    def __init__(
        self, stream: AsyncGenerator[Event, None], *, delay: float, headers: Mapping[str, str]
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", **headers})
        del self.headers["content-length"]
        self._stream = stream
        self._delay = delay

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(send))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait({pump, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            leaving.cancel()
            ended, _ = await asyncio.gather(pump, leaving, return_exceptions=True)
        if isinstance(ended, HangUpError):
            await abort(scope, reset=ended.reset)
        elif isinstance(ended, Exception):
            raise ended

    async def _pump(self, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        async with aclosing(self._stream) as stream:
            async for event, part in stream:
                if part == "content":
                    # Even without a delay this takes one turn of the loop, which detects a hang-up.
                    await asyncio.sleep(self._delay)
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
