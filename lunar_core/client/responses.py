"""Responses whose bodies are still to be read. This module owns them, not the streams that read them.

A stream that its reader has dropped is finalized by the garbage collector: at any moment, in any thread, perhaps inside
httpcore's pool, whose lock that thread then holds. If the stream owned the response, httpx's generators would be
finalized with it, and would wait for that lock for ever. So this module owns a response until it is closed. A finalizer
closes the socket and queues the response; the next call closes it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import anyio
from pydantic import SecretStr

from lunar_core.client.addresses import shut_down
from lunar_core.credentials import without_secret
from lunar_core.errors import APIStreamError, APITimeoutError, LunarError

DRAIN_SECONDS = 0.1
"""How long a reader may wait for the end of a body behind its last event: more than a delayed ACK takes (40 ms)."""

Explain = Callable[[Exception], LunarError]

_open: set[Response | AsyncResponse] = set()
_dropped: deque[Response] = deque()
_async_dropped: deque[AsyncResponse] = deque()
_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def close_dropped() -> None:
    """Close the responses that finalizers have queued."""
    while _dropped:
        with suppress(IndexError):  # another thread was quicker
            _dropped.popleft().close()


async def async_close_dropped() -> None:
    """The same for responses that came in no event loop of asyncio's."""
    while _async_dropped:
        await _async_dropped.popleft().aclose()


def start_in_loop(
    loop: asyncio.AbstractEventLoop, close: Callable[[], Coroutine[object, object, None]]
) -> None:
    """Run ``close`` as a task of ``loop``, in which this is called.

    A loop that is about to end cancels the task; the connection then ends with the loop.
    """
    task = loop.create_task(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def home() -> tuple[int, asyncio.AbstractEventLoop | None]:
    """Where a connection that is opened now belongs: this process's id and the running asyncio loop, if any."""
    return os.getpid(), running_loop()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of asyncio's kind that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _mark_inherited() -> None:
    """Mark, in a forked child, the open responses: the parent would miss what the child reads of them."""
    for response in _open:
        response.is_inherited = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_inherited)


class Response:
    """A response of httpx or httpx2. ``ends``: when its call must be over (``time.monotonic``), or None.

    ``secret``: the key that was sent, to redact it if a header repeats it. ``explain`` turns what is raised below into
    a LunarError.
    """

    def __init__(
        self, answer: Any, ends: float | None, secret: SecretStr | None, explain: Explain
    ) -> None:
        self.home = home()
        self.status_code: int = answer.status_code
        self.headers = plain_headers(answer, secret)
        self._answer = answer
        self._explain = explain
        self._lease = answer.extensions.get("lunar_lease")
        self._ends = None if self._lease is not None else ends
        # Not iter_raw(): it gives the connection away at the end of the body, perhaps to another thread's call, while
        # an alarm here may still shut that connection down.
        self._pieces: Generator[bytes, None, None] = pieces_of(answer) or _iterate_stream(answer)
        self._is_closed = False
        self.is_inherited = False
        sock = socket_of(answer) if is_http11(answer) else None
        self._socket = None if sock is None else _SharedSocket(sock)
        self._alarm: _Alarm | None = None
        if self._socket is not None and self._ends is not None:
            self._alarm = _Alarm(self._socket, self._ends)
        _open.add(self)

    def read(self) -> bytes | None:
        """The next piece of the body, still encoded, or None at its end. Raises LunarError."""
        try:
            piece = self._take()
        except Exception as error:  # noqa: BLE001  # whatever a client, a wrapper or the system raises: _explain() names it
            failure = self._explain(error)
        else:
            if self._ends is None or time.monotonic() < self._ends:
                return piece
            failure = _time_is_over()
        if self._ends is not None and time.monotonic() >= self._ends:
            failure = _time_is_over()  # whatever the alarm has made of it
        raise failure

    def drain(self) -> None:
        """Read the end of the body if it comes within DRAIN_SECONDS: the connection can then be used again."""
        ends = time.monotonic() + DRAIN_SECONDS
        with suppress(Exception):  # whatever it is: the answer is whole, and the connection ends
            if self._lease is not None:
                self._lease.deadline.at = ends
                self._take()
            elif self._socket is not None:
                alarm = _Alarm(self._socket, ends)
                self._take()
                alarm.cancel()

    def _take(self) -> bytes | None:
        try:
            return next(self._pieces, None)
        finally:
            if self._is_closed:  # by another thread, which could not do all of it
                self.close()

    def close(self) -> None:
        """Release the connection. If another thread reads from it, that read ends now, and the thread does the rest."""
        if self.home[0] != os.getpid():  # a forked child leaves its parent's alone
            return
        _open.discard(self)
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        try:
            self._pieces.close()
        except ValueError:  # it runs, in another thread
            if self._socket is not None:
                self._socket.shut_down()
        else:
            if self._socket is not None:
                self._socket.release()
            self._answer.close()

    def abandon(self) -> None:
        """Close the socket of a response that its reader has dropped. The next call does the rest."""
        if self.home[0] != os.getpid():
            return
        if self._lease is not None:
            self._lease.abandon()
        elif is_http11(self._answer) and (sock := socket_of(self._answer)) is not None:
            sock.close()
        _dropped.append(self)


class AsyncResponse:
    """The same for asyncio."""

    def __init__(
        self, answer: Any, ends: float | None, secret: SecretStr | None, explain: Explain
    ) -> None:
        self.home = home()
        self.status_code: int = answer.status_code
        self.headers = plain_headers(answer, secret)
        self._answer = answer
        self._explain = explain
        self._lease = answer.extensions.get("lunar_lease")
        self._ends = None if self._lease is not None else ends
        whole = pieces_of(answer)
        # Not aiter_raw(), for the same reason: another task may close the connection.
        self._pieces: AsyncIterator[bytes] = (
            _async_iterate_stream(answer) if whole is None else _iterate(whole)
        )
        self._is_closed = False
        self.is_inherited = False
        _open.add(self)

    async def read(self) -> bytes | None:
        """The next piece of the body, still encoded, or None at its end. Raises LunarError."""
        if running_loop() is not self.home[1]:
            raise APIStreamError(
                "the stream belongs to the event loop that opened it, and cannot be read in another one (each "
                "asyncio.run() has its own)"
            )
        try:
            if self._ends is None:
                return await self._take()
            with time_limit(self._ends):
                return await self._take()
        except Exception as error:  # noqa: BLE001  # whatever a client, a wrapper or the system raises: _explain() names it
            raise self._explain(error) from None

    async def drain(self) -> None:
        """Read the end of the body if it comes within DRAIN_SECONDS: the connection can then be used again."""
        ends = time.monotonic() + DRAIN_SECONDS
        with suppress(Exception):  # whatever it is: the answer is whole, and the connection ends
            if self._lease is not None:
                self._lease.deadline.at = ends
                await self._take()
            else:
                with time_limit(ends):
                    await self._take()

    async def _take(self) -> bytes | None:
        try:
            return await anext(self._pieces, None)
        finally:
            if self._is_closed:  # by another task, which could not do all of it
                await self.aclose()

    async def aclose(self) -> None:
        """Release the connection. If another task reads from it, that read ends now, and the task does the rest."""
        pid, loop = self.home
        if pid != os.getpid():  # a forked child leaves its parent's alone
            return
        if loop is not None and loop is not running_loop():
            self._close_in(loop)
            return
        _open.discard(self)
        self._is_closed = True
        pieces: Any = self._pieces  # a generator
        if not pieces.ag_running:
            await pieces.aclose()
            await self._answer.aclose()
        elif is_http11(self._answer) and (stream := stream_of(self._answer)) is not None:
            await stream.aclose()

    def _close_in(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(start_in_loop, loop, self.aclose)
        except RuntimeError:  # the loop has ended, and its connections with it
            _open.discard(self)

    def abandon(self) -> None:
        """Give up a response that its reader has dropped and whose event loop has ended, or is none of asyncio's."""
        if self.home[0] != os.getpid():
            return
        if self.home[1] is None:
            _async_dropped.append(self)
        else:
            _open.discard(self)  # its connection went with the loop


def plain_headers(answer: Any, secret: SecretStr | None) -> Mapping[str, str]:
    """The headers by lower-case name; repeated ones are joined. ``secret`` is redacted."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if secret is not None:
            value = without_secret(value, secret)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if answer.is_stream_consumed:
        headers.pop("content-encoding", None)
    return headers


def pieces_of(answer: Any) -> Generator[bytes, None, None] | None:
    """The body, if httpx has read and decoded it already: MockTransport's, or one that a hook has read."""
    return (piece for piece in (answer.content,)) if answer.is_stream_consumed else None


def _iterate_stream(answer: Any) -> Generator[bytes, None, None]:
    """The body as it comes, still encoded. At its end the connection still belongs to ``answer``."""
    yield from answer.stream


async def _async_iterate_stream(answer: Any) -> AsyncIterator[bytes]:
    async for piece in answer.stream:
        yield piece


async def _iterate(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def is_http11(answer: Any) -> bool:
    """Whether the connection carries one response at a time, unlike one of HTTP/2."""
    return bool(answer.extensions.get("http_version", b"").startswith(b"HTTP/1"))


def stream_of(answer: Any) -> Any:
    """The network stream of the response, as httpcore defines it, if the transport gives it."""
    return answer.extensions.get("network_stream")


def socket_of(answer: Any) -> Any:
    """The socket below that stream, if there is one."""
    stream = stream_of(answer)
    return None if stream is None else stream.get_extra_info("socket")


def time_limit(ends: float | None) -> AbstractContextManager[object]:
    """A context in which every await must be over at ``ends`` (``time.monotonic``). Raises TimeoutError."""
    return nullcontext() if ends is None else anyio.fail_after(ends - time.monotonic())


class _SharedSocket:
    """A response's socket, which other threads may shut down until the response gives its connection away.

    Then it carries another call.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def shut_down(self) -> None:
        """End the wait of the thread that reads from it."""
        with self._lock:
            if self._sock is not None:
                shut_down(self._sock)

    def release(self) -> None:
        """Let nobody shut it down from now on."""
        with self._lock:
            self._sock = None


class _Alarm:
    """A timer that shuts the socket down when the call's time is over: a foreign transport might read for longer.

    A finalizer must not cancel it, because a timer has a lock. It then shuts down a socket that is closed already.
    """

    def __init__(self, sock: _SharedSocket, ends: float) -> None:
        self._timer = threading.Timer(max(0.0, ends - time.monotonic()), sock.shut_down)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()


def _time_is_over() -> APITimeoutError:
    return APITimeoutError("the call's time is over")
