"""Stream: the chunks of an answer as they arrive. ``aio_stream.py`` is the same with ``await``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from lunar_core.client.call import Call
from lunar_core.client.failures import as_error, complete_error, strip_frames
from lunar_core.client.finalizers import close_now as let_go
from lunar_core.client.responses import Response
from lunar_core.client.stream_state import Final, StreamState
from lunar_core.errors import APIStreamError, LunarError
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire import events
from lunar_core.wire.events import JSONObject

C = TypeVar("C")
T = TypeVar("T")


class Stream(Generic[C]):
    """Iterate over it for chunks. Leaving the loop, ``close()``, ``with`` or dropping it frees the connection.

    Chunks that arrived before a failure come first. Then a LunarError is raised, whose ``partial`` is the completion so
    far. After the first content nothing is retried.

    >>> def show(client):
    ...     with client.chat.completions.create(model="gpt-4o", messages=[...], stream=True) as stream:
    ...         for chunk in stream:
    ...             print(chunk.choices[0].delta.content or "", end="")
    """

    def __init__(
        self,
        call: Call,
        response: Response,
        parse: Callable[[bytes], C | None],
    ) -> None:
        self._call = call
        self._response = response
        self._state = StreamState(call, response.status_code, response.headers)
        self._parse = parse
        self._over = self._released = False
        self._error: LunarError | None = None

    @property
    def call(self) -> CallInfo:
        """The call's id, attempts, request id and times so far."""
        return self._call.info(self._response.headers)

    @property
    def routing(self) -> RoutingDecision | None:
        """Which model the router chose and why; None until that is known."""
        return self._state.routing

    @property
    def usage(self) -> Usage | None:
        """Tokens and cost; None until the service has stated them, usually at the very end."""
        return self._state.usage

    @property
    def cost(self) -> Decimal | None:
        """USD billed so far, as the service stated it. None if it has stated none: unknown, which is not 0."""
        usage = self._state.usage
        return None if usage is None else usage.cost

    def __iter__(self) -> Iterator[C]:
        return _Chunks(self, self._parse)

    def __next__(self) -> C:
        return self._next(self._parse)

    def plain_chunks(self) -> Iterator[JSONObject]:
        """The same chunks as decoded JSON objects, for callers that build objects of their own from them."""
        return _Chunks(self, events.plain_chunk)

    def get_final_completion(self) -> Final:
        """Read to the end and return what the call would return without ``stream=True``. Raises as iterating does."""
        for _ in self.plain_chunks():
            pass
        return self._state.completion()

    def prime(self) -> None:
        """Read until the first content has come.

        Raises an error that comes before it: the plan then decides whether to retry.
        """
        try:
            self._until_content()
        except BaseException:
            self._over = True  # no stream yet: whoever opened it reports what happened
            self.release()
            raise

    def _until_content(self) -> None:
        while not self._state.primed and not self._state.ended:
            self._read()
        error = None if self._state.primed else self._state.find_fault()
        if error is not None:
            raise error

    def _next(self, parse: Callable[[bytes], T | None]) -> T:
        error = self._error
        if not self._over:
            stream_state = self._state
            try:
                while True:
                    if stream_state.ready:
                        chunk = stream_state.next(parse)
                        if chunk is not None:
                            return chunk
                    elif stream_state.ended:
                        break
                    else:
                        self._read()
                error = stream_state.find_fault()
            except Exception as exc:  # noqa: BLE001  # as_error() makes a LunarError of a bug, so that partial output is kept
                error = as_error(exc)
            except BaseException:
                self.close()
                raise
            if not self._over:  # else somebody else has closed it meanwhile
                self._finish(error)
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _read(self) -> None:
        if self._response.is_inherited:
            self._over = True  # here only: the process that opened it calls the observers
            self._error = self._call.identify(
                APIStreamError(
                    "the stream belongs to the process that opened it, and cannot be read in a forked one"
                )
            )
            raise self._error
        try:
            piece = self._response.read()
            if piece is None:
                self._state.end()
            else:
                self._state.take(piece)
        except Exception as exc:  # noqa: BLE001  # whatever a client or the system raises, kept until the chunks before it are read
            self._state.fail(strip_frames(as_error(exc)))

    def _finish(self, error: LunarError | None) -> None:
        """End the stream, well or with an error. Observers are notified first, since the rest may be cancelled."""
        self._over = True
        try:
            if error is not None:
                error = complete_error(error, self._call, headers=self._response.headers)
                self._error = strip_frames(self._state.break_off(error))
            self._state.conclude("ok" if error is None else "failed", self._error)
            if error is None and self._state.done:
                self._response.drain()
        except BaseException:  # interrupted or cancelled, perhaps before observers were notified
            self._state.conclude("aborted")
            raise
        finally:
            self.release()
        if error is None:
            self._state.warn_of_unknown_cost()

    def close(self) -> None:
        """Stop reading. The service stops generating once it sees that the connection is closed.

        May be called from another thread or task: a reader that waits for the next chunk gets an APIStreamError at
        once.
        """
        self.leave()
        self.release()

    def leave(self) -> None:
        """Notify the observers, once, that nobody reads on. The connection is still to be released."""
        if not self._over:
            self._error = self._call.identify(
                APIStreamError("the stream was closed before its end")
            )
            self._over = True  # last: a thread that reads on must not take it for a good end
            self._state.conclude("aborted")

    def abandon(self) -> None:
        """Leave the stream in the garbage collector. Closes the socket; the next call closes the rest."""
        self._call.is_finalized = True
        self.leave()
        self._response.abandon()

    def release(self) -> None:
        """Release the connection, once."""
        if not self._released:
            self._released = True
            self._response.close()

    def __enter__(self) -> Stream[C]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled; its get_final_completion() can")

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            let_go(self, self._response)


class _Chunks(Iterator[T]):
    """An iterator over a stream. When a loop is left, its iterator is dropped, and the connection is freed."""

    def __init__(self, stream: Stream[Any], parse: Callable[[bytes], T | None]) -> None:
        self._stream = stream
        self._response = stream._response
        self._parse = parse

    def __next__(self) -> T:
        return self._stream._next(self._parse)

    def __del__(self) -> None:
        if not self._stream._over:
            let_go(self._stream, self._response)
