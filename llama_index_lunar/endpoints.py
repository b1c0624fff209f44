"""What stands around an endpoint: LlamaIndex's events, and for streams their tags and their end.

LlamaIndex stamps on each event the tags of whoever reads the stream; here they are those of whoever called the
endpoint. And it tells its event handlers of the exception that ends a stream, GeneratorExit included. A handler that
keeps its events keeps the exception's frames alive, and in them the stream: nothing would close it until the handler
goes. So ``closing_stream`` frees the connection at once, whoever still holds on to what ended the stream.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from llama_index_lunar.attribution import aread_within, read_within

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_STREAMS: ContextVar[list[Any]] = ContextVar("lunar_streams")


def chat_events(method: F) -> F:
    """LlamaIndex's events around ``method``, which keeps its type."""
    return cast("F", llm_chat_callback()(method))


def completion_events(method: F) -> F:
    """The same for a method that completes a text."""
    return cast("F", llm_completion_callback()(method))


def close_at_end(stream: R) -> R:
    """Have a stream closed by the ``closing_stream`` method that it is opened for: anything with (a)``close``."""
    _STREAMS.get().append(stream)
    return stream


def closing_stream(method: F) -> F:
    """A method whose responses are read under the tags it was called with and, once left, close their stream."""

    @functools.wraps(method)
    def endpoint(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        streams: list[Any] = []
        token = _STREAMS.set(streams)
        try:
            responses = method(*args, **kwargs)
        finally:
            _STREAMS.reset(token)
        stream = streams.pop()  # the list may live on, in contexts that were copied meanwhile
        if tags := active_instrument_tags.get():
            responses = read_within(lambda: instrument_tags(tags), responses)

        def read() -> Generator[Any, None, None]:
            with closing(stream), closing(responses):
                for response in responses:  # noqa: UP028  # as its async twin
                    yield response

        return read()

    return cast("F", endpoint)


def aclosing_stream(method: F) -> F:
    """The same for asyncio."""

    @functools.wraps(method)
    async def endpoint(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        streams: list[Any] = []
        token = _STREAMS.set(streams)
        try:
            responses = await method(*args, **kwargs)
        finally:
            _STREAMS.reset(token)
        stream = streams.pop()  # the list may live on, in contexts that were copied meanwhile
        if tags := active_instrument_tags.get():
            responses = aread_within(lambda: instrument_tags(tags), responses)

        async def read() -> AsyncGenerator[Any, None]:
            async with aclosing(stream), aclosing(responses):
                async for response in responses:
                    yield response

        return read()

    return cast("F", endpoint)
