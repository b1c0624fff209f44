"""Ends a stream that its reader has dropped, in whatever thread the garbage collector runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Protocol

from lunar_core.client.responses import AsyncResponse, Response, start_in_loop


class SyncCloser(Protocol):
    """What a finalizer needs of a stream."""

    def abandon(self) -> None: ...


class AsyncCloser(Protocol):
    def abandon(self) -> None: ...
    def leave(self) -> None: ...
    def release(self) -> Coroutine[object, object, None]: ...


def close_now(stream: SyncCloser, response: Response) -> None:
    """Abandon a stream that its reader has dropped. The next call closes the rest."""
    # A forked child must leave its parent's streams alone.
    if response.home[0] == os.getpid():
        stream.abandon()


def close_soon(stream: AsyncCloser, response: AsyncResponse) -> None:
    """The same for an async stream: in its own event loop, since the garbage collector runs in any thread."""
    pid, loop = response.home
    if pid != os.getpid():
        return
    if loop is None or not loop.is_running():  # one that stands still may never run again
        stream.abandon()
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(_close_in_loop, loop, stream)


def _close_in_loop(loop: asyncio.AbstractEventLoop, stream: AsyncCloser) -> None:
    stream.leave()
    start_in_loop(loop, stream.release)
