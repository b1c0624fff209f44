"""Query engines that ask the model only when their stream is read: its calls are booked where the query was made.

LlamaIndex hands out such a stream before the LLM is called; by then the reader's block, tags and tenant may be others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from inspect import BoundArguments
from threading import Lock
from typing import Any

from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import BaseSpanHandler

from llama_index_lunar import compat
from llama_index_lunar.attribution import Attribution, aread_within, read_within


class QueryStreams(BaseSpanHandler[Any]):
    """Sees each streaming response as its query ends, and has it read as if still there. Keeps no spans."""

    def span_enter(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def span_drop(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def span_exit(
        self,
        id_: str,
        bound_args: BoundArguments,
        instance: Any = None,
        result: Any = None,
        **kwargs: Any,
    ) -> None:
        """Keep where the query was made with its stream, if that can make a difference."""
        read = _READERS.get(type(result))
        if (
            read is not None
            and not compat.openinference_reads_streams()
            and (place := Attribution())
        ):
            stream = result.response_gen
            is_kept = getattr(stream, "__name__", "") == read.__name__  # spans nest: once is enough
            if isinstance(stream, (Generator, AsyncGenerator)) and not is_kept:
                result.response_gen = read(place.restored, stream)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""


class QueryStreamsInUse:
    """Puts QueryStreams into LlamaIndex's dispatcher for the first who needs it, and takes it away with the last.

    LlamaIndex calls a span handler for each of its spans: a process that adds no costs up pays for none.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._handler = QueryStreams()
        self._users = 0

    def add(self) -> None:
        """One more needs it."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                get_dispatcher().add_span_handler(self._handler)

    def remove(self) -> None:
        """One of them needs it no longer."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                handlers = get_dispatcher().span_handlers
                handlers[:] = [handler for handler in handlers if handler is not self._handler]


IN_USE = QueryStreamsInUse()
"""That of the process."""

_READERS: dict[type, Callable[..., Any]] = {
    StreamingResponse: read_within,
    AsyncStreamingResponse: aread_within,
}
