"""Streams whose readers leave: the connection is freed at once, whoever still holds on to what ended them.

LlamaIndex tells its event handlers of the exception that ends a stream, GeneratorExit included. A handler that keeps
its events keeps the exception's frames alive, and in them the stream: nothing would close it until the handler goes.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_OPENED: ContextVar[list[Any]] = ContextVar("lunar_opened")


def opened(stream: R) -> R:
    """Hand the client's stream to the ``closing`` method that it is opened for."""
    _OPENED.get().append(stream)
    return stream


def closing(
    method: Callable[Concatenate[S, P], Generator[R, None, None]],
) -> Callable[Concatenate[S, P], Generator[R, None, None]]:
    """A method whose responses, once they are left, close the stream that they come from."""

    @functools.wraps(method)
    def with_closing(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
        streams: list[Any] = []
        token = _OPENED.set(streams)
        try:
            responses = method(self, *args, **kwargs)
        finally:
            _OPENED.reset(token)
        stream = streams.pop()  # the list may live on, in contexts that were copied meanwhile

        def until_left() -> Generator[R, None, None]:
            try:
                yield from responses
            finally:
                stream.close()

        return until_left()

    return with_closing


def aclosing_method(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, AsyncGenerator[R, None]]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, AsyncGenerator[R, None]]]:
    """The same for asyncio."""

    @functools.wraps(method)
    async def with_closing(
        self: S, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[R, None]:
        streams: list[Any] = []
        token = _OPENED.set(streams)
        try:
            responses = await method(self, *args, **kwargs)
        finally:
            _OPENED.reset(token)
        stream = streams.pop()

        async def until_left() -> AsyncGenerator[R, None]:
            async with aclosing(stream), aclosing(responses):
                async for response in responses:
                    yield response

        return until_left()

    return with_closing
