"""Runs asynchronous work to its end from sync code, in a notebook too; and runs many workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

T = TypeVar("T")


def run_to_end(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``work()`` and return its result, or raise its exception.

    If a loop already runs in this thread, as in a notebook, the work runs in a thread of its own, with this thread's
    tags and observers, and the loop waits for it. An interrupt (Ctrl-C) cancels the work.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with start_blocking_portal() as portal:
        result: T = portal.call(work)
    return result


async def run_workers(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run ``work()`` ``count`` times at once. If one fails, cancel the others and raise its exception."""
    workers = [asyncio.create_task(work()) for _ in range(count)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
