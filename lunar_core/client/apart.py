"""How a finalizer has something done that may need a lock: in another thread.

The garbage collector runs at any moment, perhaps inside the very code that holds the lock which an observer, or a
handler of logging, would take: in this thread that would wait for itself, for ever.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress

WAIT_SECONDS = 1.0
"""How long a finalizer waits for the end of it: whoever drops a stream then finds its observers told."""


def run_apart(task: Callable[[], object]) -> None:
    """Run ``task`` in a thread of its own. Returns at its end, or after a second: then it waits for this thread."""
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
