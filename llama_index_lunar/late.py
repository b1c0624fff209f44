"""Query engines that ask the model only when their stream is read: its calls are booked where the query was made.

LlamaIndex hands out such a stream before the LLM is called; by then the reader's block, tags and tenant may be others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, aclosing, closing, contextmanager
from contextvars import ContextVar
from inspect import BoundArguments
from typing import Any, TypeVar

from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.span_handlers import BaseSpanHandler

from lunar_core.cost.ledger import Ledger
from lunar_core.observers import current_tags, tags

R = TypeVar("R")

LEDGERS: ContextVar[tuple[Ledger, ...]] = ContextVar("lunar_ledgers", default=())
"""The ledgers that want to hear of the calls made here."""


class _Place:
    """On whom calls are booked here."""

    def __init__(self) -> None:
        self.ledgers = LEDGERS.get()
        self.tags = current_tags()
        self.theirs = active_instrument_tags.get()

    def __bool__(self) -> bool:
        return bool(self.ledgers or self.tags or self.theirs)

    @contextmanager
    def entered(self) -> Iterator[None]:
        token = LEDGERS.set(self.ledgers)
        try:
            with tags(**self.tags), instrument_tags(self.theirs):
                yield
        finally:
            LEDGERS.reset(token)


class LateStreams(BaseSpanHandler[Any]):
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
        """Take note of where the query was made, if that can make a difference."""
        read = _KINDS.get(type(result))
        if read is not None and _is_wanted() and (place := _Place()):
            stream = result.response_gen
            known = getattr(stream, "__name__", "") == read.__name__  # spans nest: once is enough
            if isinstance(stream, (Generator, AsyncGenerator)) and not known:
                result.response_gen = read(place.entered, stream)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """There are none."""


def install() -> None:
    """Once for the process."""
    handlers = get_dispatcher().span_handlers
    if not any(isinstance(handler, LateStreams) for handler in handlers):
        handlers.append(LateStreams())


def _is_wanted() -> bool:
    """Not where OpenInference traces: it has such streams read in their own context already."""
    return not any(hasattr(each, "_pending_streams") for each in get_dispatcher().span_handlers)


def read_within(
    entered: Callable[[], AbstractContextManager[None]], stream: Generator[R, None, None]
) -> Generator[R, None, None]:
    """``stream``, each of its steps taken within what ``entered()`` enters."""
    with closing(stream):
        while True:
            with entered():
                item = next(stream, _OVER)
            if item is _OVER:
                return
            yield item


async def aread_within(
    entered: Callable[[], AbstractContextManager[None]], stream: AsyncGenerator[R, None]
) -> AsyncGenerator[R, None]:
    """The same for asyncio."""
    async with aclosing(stream):
        while True:
            with entered():
                item = await anext(stream, _OVER)
            if item is _OVER:
                return
            yield item


_OVER: Any = object()
_KINDS: dict[type, Callable[[Callable[[], AbstractContextManager[None]], Any], Any]] = {
    StreamingResponse: read_within,
    AsyncStreamingResponse: aread_within,
}
