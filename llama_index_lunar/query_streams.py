"""Attributes the calls of a query engine's stream to the place of the query.

LlamaIndex returns such a stream before it calls the LLM; when the stream is read, block, tags and tenant may be others.
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
    """A span handler that wraps each streaming response as its query ends. It keeps no spans."""

    def span_enter(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def span_drop(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def span_exit(
        self,
        id_: str,
        bound_args: BoundArguments,
        instance: Any = None,
        result: Any = None,
        **kwargs: Any,
    ) -> None:
        """Have the stream of a query's response read in the query's attribution, if it has one."""
        read = _READERS.get(type(result))
        if (
            read is not None
            and not compat.openinference_reads_streams()
            and (place := Attribution())
        ):
            stream = result.response_gen
            is_kept = (
                getattr(stream, "__name__", "") == read.__name__
            )  # spans nest: wrapped already
            if isinstance(stream, (Generator, AsyncGenerator)) and not is_kept:
                result.response_gen = read(place.restore, stream)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Keep no span."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """Keep no span."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Keep no span."""


class QueryStreamsInUse:
    """Adds QueryStreams to LlamaIndex's dispatcher for its first user, and removes it with the last.

    LlamaIndex calls a span handler for each span: a process that adds up no costs must not pay for that.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._handler = QueryStreams()
        self._users = 0

    def add(self) -> None:
        """Count one more user."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                get_dispatcher().add_span_handler(self._handler)

    def remove(self) -> None:
        """Count one user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                handlers = get_dispatcher().span_handlers
                handlers[:] = [handler for handler in handlers if handler is not self._handler]


IN_USE = QueryStreamsInUse()
"""The one of this process."""

_READERS: dict[type, Callable[..., Any]] = {
    StreamingResponse: read_within,
    AsyncStreamingResponse: aread_within,
}
