"""Ends a stream that its reader has dropped, in whatever thread the garbage collector runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Protocol

from lunar_core.client.call import Call
from lunar_core.client.responses import AsyncResponse, Response, start_in_loop


class SyncCloser(Protocol):
    _call: Call
    _response: Response

    def leave(self) -> None: ...


class AsyncCloser(Protocol):
    _call: Call
    _response: AsyncResponse

    def leave(self) -> None: ...
    def release(self) -> Coroutine[object, object, None]: ...


def close_now(stream: SyncCloser) -> None:
    """Close the socket of a stream that its reader has dropped. The next call closes the rest."""
    # A forked child must leave its parent's streams alone.
    if stream._response.home[0] == os.getpid():
        stream._call.is_finalized = True
        stream.leave()
        stream._response.abandon()


def close_soon(stream: AsyncCloser) -> None:
    """The same for an async stream: in its own event loop, since the garbage collector runs in any thread."""
    pid, loop = stream._response.home
    if pid != os.getpid():
        return
    if loop is None or loop.is_closed():
        stream._call.is_finalized = True
        stream.leave()
        stream._response.abandon()
    else:
        loop.call_soon_threadsafe(_close_in_loop, loop, stream)


def _close_in_loop(loop: asyncio.AbstractEventLoop, stream: AsyncCloser) -> None:
    stream.leave()
    start_in_loop(loop, stream.release)
