"""Streamed answers: pieces become events, events become bytes, and what was sent is billed.

The bill is written before the last bytes leave, so that a client that has read its answer finds
it in the log. A client that hangs up is billed for the pieces sent so far.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lunar_core.sandbox.bills import Bill
from lunar_core.sandbox.connections import HangUp, abort
from lunar_core.sandbox.dialects import Documented, Head
from lunar_core.sandbox.faults import Fault, error_body
from lunar_core.sandbox.generate import Piece

Event = tuple[bytes, Literal["opening", "content", "end"]]

DONE = b"data: [DONE]\n\n"
_MIDDLE = 2
"""Pieces of content that come before a fault in the middle, unless its value says otherwise."""


def encode(event: Mapping[str, Any]) -> bytes:
    """Write one server-sent event."""
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


async def events(
    dialect: Documented,
    head: Head,
    pieces: AsyncIterator[Piece],
    *,
    choices: int,
    style: str,
    bill: Bill,
) -> AsyncIterator[Event]:
    """Form the events of a stream, and bill them.

    Args:
        pieces: what is generated; the last of them has the last ``finish_reason``.
        style: where usage goes: on the ``last`` chunk with choices, on a ``closing`` chunk without
            any, on ``every`` chunk, or ``none``.
        bill: is closed before the last piece leaves, or when the stream is closed before that.
    """
    unfinished = choices
    try:
        for chunk in dialect.opening(head, choices):
            yield encode(chunk), "opening"
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                bill.add(piece)
                unfinished -= piece.finish_reason is not None
                last = unfinished == 0 and piece.finish_reason is not None
                if last:
                    bill.close(usage_sent=style != "none")
                told = style == "every" or (last and style == "last")
                usage = bill.usage(dialect) if told else None
                yield encode(dialect.chunk(head, piece, usage)), "content" if piece.delta else "end"
        if style == "closing":
            yield encode(dialect.closing(head, bill.usage(dialect))), "end"
        yield DONE, "end"
    finally:
        bill.close(aborted=True)


async def interrupt(
    fault: Fault, stream: AsyncIterator[Event], error: Mapping[str, Any], *, done_follows: bool
) -> AsyncIterator[Event]:
    """Let a stream through up to where the fault strikes, and strike.

    Raises:
        HangUp: the connection is to be closed.
    """
    kind, _, place = fault.name.rpartition("-")
    middle = place == "mid" or fault.name in ("malformed", "truncated")
    left = int(_MIDDLE if fault.value is None else fault.value)
    async with aclosing(stream):  # type: ignore[type-var]
        async for event, part in _none() if place == "first" else stream:
            if middle and (part == "end" or (part == "content" and left == 0)):
                break
            left -= part == "content"
            if fault.name != "no-done" or event != DONE:
                yield event, part
    if (told := error_body(fault, error)) is not None:
        yield encode(told), "end"
        if done_follows and kind == "error":
            yield DONE, "end"
    elif fault.name == "hang-mid":
        await asyncio.Event().wait()
    elif middle and kind in ("hangup", "reset"):
        raise HangUp(reset=kind == "reset")
    elif fault.name == "malformed":
        yield b'data: {"id": "chatcmpl", "choices": [{"index": 0, "delta": {"cont\n\n', "end"
        yield DONE, "end"
    elif fault.name == "truncated":
        yield b'data: {"id": "chatcmpl", "choices": [{"ind', "end"


async def _none() -> AsyncIterator[Event]:
    """Yield nothing: what fails first was never begun, and costs nothing."""
    for event in ():
        yield event


class EventStream(Response):
    """Sends events as they come; stops, and closes their source, when the client goes away."""

    media_type = "text/event-stream"

    def __init__(
        self, stream: AsyncIterator[Event], *, delay: float, headers: Mapping[str, str]
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", **headers})
        del self.headers["content-length"]
        self._stream = stream
        self._delay = delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end or until the client is gone, whichever is first."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            gone.cancel()
            ended, _ = await asyncio.gather(pump, gone, return_exceptions=True)
        if isinstance(ended, HangUp):
            await abort(scope, reset=ended.reset)
        elif isinstance(ended, Exception):
            raise ended

    async def _pump(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async with aclosing(self._stream) as stream:  # type: ignore[type-var]
            async for event, part in stream:
                if part == "content":
                    # Even without a delay, one turn of the loop: so a hang-up is noticed.
                    await asyncio.sleep(self._delay)
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
