"""The endpoints of ``Lunar``: each takes keywords and returns an answer. ``planner`` plans a call, ``run`` sends it."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from typing_extensions import Unpack

from lunar_core.client.attempts import Plan
from lunar_core.client.call import Call
from lunar_core.client.planner import Planner
from lunar_core.client.sync_stream import Stream
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

Runner = Callable[[Call, Plan[Any]], Any]


class Chat:
    def __init__(self, run: Runner, planner: Planner) -> None:
        self.completions = ChatCompletions(run, planner)


class ChatCompletions:
    """``client.chat.completions``: conversations."""

    def __init__(self, run: Runner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: Literal[False] = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: Literal[True],
        **params: Unpack[ChatParams],
    ) -> Stream[ChatCompletionChunk]: ...

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: bool,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | Stream[ChatCompletionChunk]: ...

    def create(
        self,
        *,
        model: str,
        messages: Sequence[MessageParam],
        stream: bool = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | Stream[ChatCompletionChunk]:
        """POST /v1/chat/completions.

        With ``model="router"`` the service chooses one of ``models``, or of all its models.

        Raises ConfigurationError before anything is sent, other LunarErrors after. The keywords are those of
        ``ChatParams``; others are sent as they are.
        """
        keywords = {"model": model, "messages": messages, "stream": stream, **params}
        answer: ChatCompletion = self._run(*self._planner.chat(keywords))
        return answer


class Completions:
    """``client.completions``: texts to go on with."""

    def __init__(self, run: Runner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    def create(
        self,
        *,
        model: str,
        prompt: str,
        stream: Literal[False] = False,
        **params: Unpack[CompletionParams],
    ) -> Completion: ...

    @overload
    def create(
        self, *, model: str, prompt: str, stream: Literal[True], **params: Unpack[CompletionParams]
    ) -> Stream[CompletionChunk]: ...

    @overload
    def create(
        self, *, model: str, prompt: str, stream: bool, **params: Unpack[CompletionParams]
    ) -> Completion | Stream[CompletionChunk]: ...

    def create(
        self, *, model: str, prompt: str, stream: bool = False, **params: Unpack[CompletionParams]
    ) -> Completion | Stream[CompletionChunk]:
        """POST /v1/completions: text in, text out. Raises as ``chat.completions.create`` does."""
        keywords = {"model": model, "prompt": prompt, "stream": stream, **params}
        answer: Completion = self._run(*self._planner.text(keywords))
        return answer


class Router:
    """``client.router``: the choice of a model, with an answer or alone."""

    def __init__(self, run: Runner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    @overload
    def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: Literal[False] = False,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: Literal[True],
        **params: Unpack[RouterParams],
    ) -> Stream[ChatCompletionChunk]: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: bool,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion | Stream[ChatCompletionChunk]: ...

    def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: bool = False,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion | Stream[ChatCompletionChunk]:
        """POST /v1/router: choose a model for the messages and, unless ``execute=False``, ask it.

        ``models``: the models to choose from, 2 or more; default all. ``cost_weight``: 0.0 or more; the router chooses
        the lowest sum of expected error and ``cost_weight`` times USD per 1,000 tokens. ``BREAK_TIES`` picks the
        cheapest of equals, 20 to 100 trade quality for price. Raises as ``chat.completions.create`` does.
        """
        keywords = {"messages": messages, "execute": execute, "stream": stream, **params}
        answer: RoutedCompletion = self._run(*self._planner.router(keywords))
        return answer

    def decide(
        self, *, messages: Sequence[MessageParam], **params: Unpack[DecideParams]
    ) -> RoutingDecision:
        """Ask which model the router would choose, and why. Nothing is generated. Raises as ``create`` does."""
        keywords = {"messages": messages, "execute": False, **params}
        answer: RoutedCompletion = self._run(*self._planner.router(keywords))
        if answer.routing is None:
            raise TypeError("read_decision lets nothing else through")
        return answer.routing

    def profiles(self) -> Profiles:
        """GET /v1/router/profiles: the models that the router knows."""
        answer: Profiles = self._run(*self._planner.profiles())
        return answer


class Models:
    """``client.models``: the catalogue and its prices."""

    def __init__(self, run: Runner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    def list(self) -> list[Model]:
        """GET /v1/models. If the service does not have it: its price list, whose models carry their prices."""
        answer: list[Model] = self._run(*self._planner.models())
        return answer

    def prices(self) -> builtins.list[Model]:
        """GET /v1/pricing/models: what each model costs, in USD per million tokens; see ``lunar_core.Prices.of``."""
        answer: list[Model] = self._run(*self._planner.prices())
        return answer


class Providers:
    """``client.providers``: who serves a model."""

    def __init__(self, run: Runner, planner: Planner) -> None:
        self._run = run
        self._planner = planner

    def list(self, *, model: str | None = None) -> list[Provider]:
        """GET /v1/providers: the providers that serve ``model`` (the service's own default: gpt-4o-mini)."""
        answer: list[Provider] = self._run(*self._planner.providers(model))
        return answer
