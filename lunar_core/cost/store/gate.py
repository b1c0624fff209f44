"""Closes connections to SQLite before a fork, since a child would share locks that are not its own.

SQLite keeps a list of its locks for each file and process. A forked child has its parent's list but none of its locks:
it would neither take the locks that it needs nor keep its parent from deleting the log. A new connection in the child
does not help, so the parent closes its own before it forks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

from lunar_core.errors import LedgerError


class ForkGate:
    """Entered while a connection is in use (``with gate:``). A fork waits until nobody is inside.

    ``close_idle``: called before a fork, when nobody is inside, to close connections that are kept open; they are
    opened again at their next use. ``begin_child``: called in the child.
    """

    def __init__(self, close_idle: Callable[[], None], begin_child: Callable[[], None]) -> None:
        self._close_idle = close_idle
        self._begin_child = begin_child
        self._inside = 0
        self._forking: int | None = None
        # An RLock, since the garbage collector may report a stream's end while this thread is in here.
        self._changed = threading.Condition(threading.RLock())
        _GATES.add(self)

    def __enter__(self) -> None:
        with self._changed:
            if self._forking == threading.get_ident():
                raise LedgerError("the store cannot be asked in the middle of a fork")
            while self._forking is not None:
                self._changed.wait()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            while self._forking is not None:
                self._changed.wait()
            self._forking = threading.get_ident()
            while self._inside:
                self._changed.wait()
        self._close_idle()

    def after_in_parent(self) -> None:
        with self._changed:
            self._forking = None
            self._changed.notify_all()

    def after_in_child(self) -> None:
        self._inside, self._forking = 0, None
        self._changed = threading.Condition(threading.RLock())
        self._begin_child()


_GATES: weakref.WeakSet[ForkGate] = weakref.WeakSet()


def _step_of_gates(step: str) -> Callable[[], None]:
    def run() -> None:
        for gate in list(_GATES):
            getattr(gate, step)()

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_step_of_gates("before_fork"),
        after_in_parent=_step_of_gates("after_in_parent"),
        after_in_child=_step_of_gates("after_in_child"),
    )
