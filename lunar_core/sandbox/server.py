"""Runs the application under uvicorn: one process, one port on 127.0.0.1, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

import uvicorn

from lunar_core.sandbox.connections import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from starlette.types import ASGIApp

_BACKLOG = 2048


def listen(port: int) -> socket.socket:
    """Open the port (0: a free one), so that its number is known before the first request."""
    # asyncio turns Nagle's algorithm off only where the protocol is named: 40 ms an answer.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(_BACKLOG)
    return sock


def serve(
    app: ASGIApp, sock: socket.socket, *, ready: Callable[[], None], until_stdin_closes: bool
) -> None:
    """Serve ``app`` on a socket of ``listen`` until SIGINT or SIGTERM, or until stdin ends.

    ``ready``: is called once requests are accepted. ``until_stdin_closes``: end when stdin does, which it does when the
    parent process is gone, however it went.
    """
    _allow_many_sockets()
    logging.getLogger("uvicorn.error").addFilter(_no_farewell)
    server = _Server(
        uvicorn.Config(
            app,
            loop="asyncio",  # the same sandbox, whatever else is installed
            http=Protocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            # Longer than clients keep idle connections, so that none is closed while one uses it.
            timeout_keep_alive=120,
            timeout_graceful_shutdown=1,
        ),
        ready,
    )
    if until_stdin_closes:
        threading.Thread(target=_wait_for_stdin, args=(server,), daemon=True).start()
    server.run(sockets=[sock])


class _Server(uvicorn.Server):
    """uvicorn's server, which also says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _no_farewell(record: logging.LogRecord) -> bool:
    """Filter out log records of answers that the end of the server cut off, which is expected."""
    error = record.exc_info[1] if record.exc_info else None
    cut_off = isinstance(error, asyncio.CancelledError) or record.msg.startswith("Cancel ")
    return not cut_off


def _wait_for_stdin(server: uvicorn.Server) -> None:
    # Not sys.stdin: its lock, held by a waiting thread, aborts the interpreter's end.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    server.should_exit = True


def _allow_many_sockets() -> None:
    """Raise the limit of open files as far as the system lets us: one socket per request."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_on_signals() -> None:
    """Make the ending signals raise SystemExit, so that everything that was started is stopped."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0 if number == signal.SIGTERM else 130)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # The terminal was closed, and the sandbox was started without nohup.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
