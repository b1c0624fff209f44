"""Decorators of LlamaIndex's endpoints: its events, and for streams their tags and their end.

LlamaIndex puts on each event the tags of the code that reads the stream; here they are those of the code that called
the endpoint. LlamaIndex also passes the exception that ends a stream, GeneratorExit included, to its event handlers. A
handler that keeps its events keeps the exception's frames alive, and in them the stream, which nothing would close
until the handler goes. So ``closing_stream`` frees the connection at once, whoever keeps the exception.
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
    """Add LlamaIndex's chat events to ``method``, which keeps its type."""
    return cast("F", llm_chat_callback()(method))


def completion_events(method: F) -> F:
    """Add LlamaIndex's completion events to ``method``, which keeps its type."""
    return cast("F", llm_completion_callback()(method))


def close_at_end(stream: R) -> R:
    """Let the ``closing_stream`` method that runs here close ``stream``: anything with ``close`` or ``aclose``."""
    _STREAMS.get().append(stream)
    return stream


def closing_stream(method: F) -> F:
    """Have a method's responses read under the tags of its call, and its stream closed when reading ends."""

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
                yield from responses

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
