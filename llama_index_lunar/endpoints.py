"""What stands around an endpoint: LlamaIndex's events, and for streams their tags and their end.

LlamaIndex stamps on each event the tags of whoever reads the stream; here they are those of whoever asked for it.
And it tells its event handlers of the exception that ends a stream, GeneratorExit included. A handler that keeps its
events keeps the exception's frames alive, and in them the stream: nothing would close it until the handler goes. So
``closing`` frees the connection at once, whoever still holds on to what ended the stream.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

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
        tags = active_instrument_tags.get()

        def until_left() -> Generator[Any, None, None]:
            try:
                yield from _under(tags, responses) if tags else responses
            finally:
                responses.close()
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
        tags = active_instrument_tags.get()

        async def until_left() -> AsyncGenerator[Any, None]:
            told = _aunder(tags, responses) if tags else responses
            async with aclosing(stream), aclosing(responses), aclosing(told):
                async for response in told:
                    yield response

        return until_left()

    return cast("F", with_closing)


def _under(
    tags: Mapping[str, Any], responses: Generator[R, None, None]
) -> Generator[R, None, None]:
    while True:
        with instrument_tags(dict(tags)):
            response = next(responses, None)
        if response is None:
            return
        yield response


async def _aunder(
    tags: Mapping[str, Any], responses: AsyncGenerator[R, None]
) -> AsyncGenerator[R, None]:
    while True:
        with instrument_tags(dict(tags)):
            response = await anext(responses, None)
        if response is None:
            return
        yield response
