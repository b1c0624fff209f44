"""How a stream that its reader has dropped is closed, in whatever thread the garbage collector runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Protocol


class SyncCloser(Protocol):
    home: tuple[int, asyncio.AbstractEventLoop | None]

    def close(self) -> None: ...


class AsyncCloser(Protocol):
    home: tuple[int, asyncio.AbstractEventLoop | None]

    def leave(self) -> None: ...
    def release(self) -> Coroutine[object, object, None]: ...


def home() -> tuple[int, asyncio.AbstractEventLoop | None]:
    """Where connections opened now belong: to this process, and to the event loop that runs, if any."""
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:
        return os.getpid(), None


def close_now(stream: SyncCloser) -> None:
    """Close a stream that its reader has dropped."""
    if stream.home[0] == os.getpid():  # a forked child must leave its parent's streams alone
        stream.close()


def close_soon(stream: AsyncCloser) -> None:
    """The same for an async stream: on its own loop, since the garbage collector runs in any thread."""
    pid, loop = stream.home
    if pid != os.getpid() or loop is None:
        return
    if loop.is_closed():
        stream.leave()  # its connection went with the loop
    else:
        loop.call_soon_threadsafe(_close_in_loop, loop, stream)


def _close_in_loop(loop: asyncio.AbstractEventLoop, stream: AsyncCloser) -> None:
    stream.leave()
    # A loop that is about to close cancels this; then the connection goes with the loop.
    task = loop.create_task(stream.release())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
