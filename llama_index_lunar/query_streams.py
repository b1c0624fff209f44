"""Query engines that ask the model only when their stream is read: its calls are booked where the query was made.

LlamaIndex hands out such a stream before the LLM is called; by then the reader's block, tags and tenant may be others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from inspect import BoundArguments
from typing import Any

from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import BaseSpanHandler

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
        if read is not None and not _openinference_does() and (place := Attribution()):
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


def install() -> None:
    """Once for the process."""
    handlers = get_dispatcher().span_handlers
    if not any(isinstance(handler, QueryStreams) for handler in handlers):
        handlers.append(QueryStreams())


def _openinference_does() -> bool:
    """Where OpenInference traces, it has such streams read in their own context already."""
    return any(hasattr(handler, "_pending_streams") for handler in get_dispatcher().span_handlers)


_READERS: dict[type, Callable[..., Any]] = {
    StreamingResponse: read_within,
    AsyncStreamingResponse: aread_within,
}
