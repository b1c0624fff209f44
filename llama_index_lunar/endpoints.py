"""What stands around an endpoint: LlamaIndex's events, and for streams their tags and their end.

LlamaIndex stamps on each event the tags of whoever reads the stream; here they are those of whoever asked for it.
And it tells its event handlers of the exception that ends a stream, GeneratorExit included. A handler that keeps its
events keeps the exception's frames alive, and in them the stream: nothing would close it until the handler goes. So
``closing`` frees the connection at once, whoever still holds on to what ended the stream.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from llama_index_lunar.late import aread_within, read_within

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_OPENED: ContextVar[list[Any]] = ContextVar("lunar_opened")


def chat_events(method: F) -> F:
    """LlamaIndex's events around ``method``, which keeps its type."""
    return cast("F", llm_chat_callback()(method))


def completion_events(method: F) -> F:
    """The same for a method that completes a text."""
    return cast("F", llm_completion_callback()(method))


def opened(stream: R) -> R:
    """Hand a stream, anything with ``close`` or ``aclose``, to the ``closing`` method that it is opened for."""
    _OPENED.get().append(stream)
    return stream


def closing(method: F) -> F:
    """A method whose responses are read under the tags it was called with and, once left, close their stream."""

    @functools.wraps(method)
    def with_closing(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        streams: list[Any] = []
        token = _OPENED.set(streams)
        try:
            responses = method(*args, **kwargs)
        finally:
            _OPENED.reset(token)
        stream = streams.pop()  # the list may live on, in contexts that were copied meanwhile
        if tags := active_instrument_tags.get():
            responses = read_within(lambda: instrument_tags(tags), responses)

        def until_left() -> Generator[Any, None, None]:
            try:
                yield from responses
            finally:
                stream.close()

        return until_left()

    return cast("F", with_closing)


def aclosing_method(method: F) -> F:
    """The same for asyncio."""

    @functools.wraps(method)
    async def with_closing(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        streams: list[Any] = []
        token = _OPENED.set(streams)
        try:
            responses = await method(*args, **kwargs)
        finally:
            _OPENED.reset(token)
        stream = streams.pop()
        if tags := active_instrument_tags.get():
            responses = aread_within(lambda: instrument_tags(tags), responses)

        async def until_left() -> AsyncGenerator[Any, None]:
            async with aclosing(stream), aclosing(responses):
                async for response in responses:
                    yield response

        return until_left()

    return cast("F", with_closing)
