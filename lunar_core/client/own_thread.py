"""Runs a task in a thread of its own, for a finalizer whose task may need a lock.

The garbage collector runs at any moment, perhaps inside code that holds the very lock that an observer or a handler of
logging would take. In that thread the finalizer would wait for itself, for ever.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress

WAIT_SECONDS = 1.0
"""How long a finalizer waits for its task, so that whoever drops a stream finds its observers notified."""


def run_in_own_thread(task: Callable[[], object]) -> None:
    """Run ``task`` in a thread of its own. Returns when it has ended, or while it still runs after WAIT_SECONDS."""
    if sys.is_finalizing():  # no other thread runs any more
        task()
        return
    is_done = allocate_lock()
    is_done.acquire()

    def run() -> None:
        try:
            task()
        finally:
            is_done.release()

    try:
        # Not threading.Thread, which has locks of its own.
        start_new_thread(run, ())
    except RuntimeError:  # none can be started
        task()
        return
    with suppress(Exception):  # gevent's own loop must not wait, and says so
        is_done.acquire(timeout=WAIT_SECONDS)
