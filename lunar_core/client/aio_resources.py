"""The endpoints of ``AsyncLunar``: each takes keywords and returns the answer.

``planner`` plans a call, ``run`` sends it.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, overload

from typing_extensions import Unpack

from lunar_core.client.aio_stream import AsyncStream
from lunar_core.client.attempts import Plan
from lunar_core.client.call import Call
from lunar_core.client.planner import Planner
from lunar_core.types.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.wire.catalogue import Model, Profiles, Provider
from lunar_core.wire.params import (
    ChatParams,
    CompletionParams,
    DecideParams,
    MessageParam,
    RouterParams,
)

AsyncRunner = Callable[[Call, Plan[Any]], Awaitable[Any]]


class AsyncChat:
    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self.completions = AsyncChatCompletions(run, planner)


class AsyncChatCompletions:
    """``client.chat.completions``: conversations."""

    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: Literal[False] = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: Literal[True],
        **params: Unpack[ChatParams],
    ) -> AsyncStream[ChatCompletionChunk]: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: bool,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | AsyncStream[ChatCompletionChunk]: ...

    async def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: bool = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | AsyncStream[ChatCompletionChunk]:
        """POST /v1/chat/completions.

        With ``model="router"`` the service chooses one of ``models``, or of all its models.

        Raises ConfigurationError before anything is sent, other LunarErrors after. The keywords are those of
        ``ChatParams``; others are sent as they are.
        """
        keywords = {"model": model, "messages": messages, "stream": stream, **params}
        answer: ChatCompletion = await self._run(*self._planner.chat(keywords))
        return answer


class AsyncCompletions:
    """``client.completions``: texts to go on with."""

    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    async def create(
        self,
        *,
        model: str,
        prompt: str,
        stream: Literal[False] = False,
        **params: Unpack[CompletionParams],
    ) -> Completion: ...

    @overload
    async def create(
        self, *, model: str, prompt: str, stream: Literal[True], **params: Unpack[CompletionParams]
    ) -> AsyncStream[CompletionChunk]: ...

    @overload
    async def create(
        self, *, model: str, prompt: str, stream: bool, **params: Unpack[CompletionParams]
    ) -> Completion | AsyncStream[CompletionChunk]: ...

    async def create(
        self, *, model: str, prompt: str, stream: bool = False, **params: Unpack[CompletionParams]
    ) -> Completion | AsyncStream[CompletionChunk]:
        """POST /v1/completions: text in, text out. Raises as ``chat.completions.create`` does."""
        keywords = {"model": model, "prompt": prompt, "stream": stream, **params}
        answer: Completion = await self._run(*self._planner.text(keywords))
        return answer


class AsyncRouter:
    """``client.router``: the choice of a model, with an answer or alone."""

    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    async def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: Literal[False] = False,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: Literal[True],
        **params: Unpack[RouterParams],
    ) -> AsyncStream[ChatCompletionChunk]: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: bool,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion | AsyncStream[ChatCompletionChunk]: ...

    async def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: bool = False,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion | AsyncStream[ChatCompletionChunk]:
        """POST /v1/router: choose a model for the messages and, unless ``execute=False``, ask it.

        ``models``: the models to choose from, 2 or more; default all. ``cost_weight``: 0.0 or more; the router chooses
        the lowest sum of expected error and ``cost_weight`` times USD per 1,000 tokens. ``BREAK_TIES`` picks the
        cheapest of equals, 20 to 100 trade quality for price. Raises as ``chat.completions.create`` does.
        """
        keywords = {"messages": messages, "execute": execute, "stream": stream, **params}
        answer: RoutedCompletion = await self._run(*self._planner.router(keywords))
        return answer

    async def decide(
        self, *, messages: Sequence[MessageParam], **params: Unpack[DecideParams]
    ) -> RoutingDecision:
        """Ask which model the router would choose, and why. Nothing is generated. Raises as ``create`` does."""
        keywords = {"messages": messages, "execute": False, **params}
        answer: RoutedCompletion = await self._run(*self._planner.router(keywords))
        if answer.routing is None:
            raise TypeError("read_decision lets nothing else through")
        return answer.routing

    async def profiles(self) -> Profiles:
        """GET /v1/router/profiles: the models that the router knows."""
        answer: Profiles = await self._run(*self._planner.profiles())
        return answer


class AsyncModels:
    """``client.models``: the catalogue and its prices."""

    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    async def list(self) -> list[Model]:
        """GET /v1/models. If the service does not have it: its price list, whose models carry their prices."""
        answer: list[Model] = await self._run(*self._planner.models())
        return answer

    async def prices(self) -> builtins.list[Model]:
        """GET /v1/pricing/models: what each model costs, in USD per million tokens; see ``lunar_core.Prices.of``."""
        answer: list[Model] = await self._run(*self._planner.prices())
        return answer


class AsyncProviders:
    """``client.providers``: who serves a model."""

    def __init__(self, run: AsyncRunner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    async def list(self, *, model: str | None = None) -> list[Provider]:
        """GET /v1/providers: the providers that serve ``model`` (the service's own default: gpt-4o-mini)."""
        answer: list[Provider] = await self._run(*self._planner.providers(model))
        return answer
