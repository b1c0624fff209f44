"""AsyncLunar: carries out what a Job and its plan say. ``sync.py`` is the same without ``await``."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, overload

from typing_extensions import Self, Unpack

from lunar_core.client.aio_stream import AsyncStream
from lunar_core.client.attempts import Plan, Reply
from lunar_core.client.body import Body
from lunar_core.client.connections import AsyncConnections
from lunar_core.client.http import Requests, as_error, bare, explained, redacted
from lunar_core.client.jobs import Desk, Job, reader, runtime
from lunar_core.observers import Observer, checked_observers
from lunar_core.settings import Limits, Secret, Settings, hidden
from lunar_core.wire import answers, events
from lunar_core.wire.calls import Call
from lunar_core.wire.catalogue import Model, Profiles, Provider
from lunar_core.wire.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.wire.params import (
    ChatParams,
    CompletionParams,
    DecideParams,
    MessageParam,
    RouterParams,
)


class AsyncLunar:
    """A client of the Lunar API, for asyncio.

    ``api_key`` or ``jwt``: a string, or a function that returns one and is asked for each request; else
    the environment (LUNAR_API_KEY, LUNAR_JWT). ``base_url``: else LUNAR_BASE_URL, else the hosted service.
    ``timeout``: seconds, ``(connect, read)``, Timeout or httpx's own. ``total_timeout``: seconds for a whole
    call with its retries, fallbacks and the body of a stream. ``fallbacks``: models to ask when the first fails.
    ``observers``: see Observer. ``http_client``: an httpx or httpx2 AsyncClient of your own, left open by ``aclose()``.

    One client may be shared by any number of tasks and used on several event loops; it may be forked,
    copied and pickled. Raises ConfigurationError for a setting that cannot work.

    >>> async def main():
    ...     async with AsyncLunar() as client:
    ...         answer = await client.chat.completions.create(
    ...             model="router", messages=[{"role": "user", "content": "Say hello"}]
    ...         )
    ...         print(answer.choices[0].message.content, answer.usage.total_cost_usd)
    """

    def __init__(
        self,
        api_key: Secret | None = None,
        *,
        jwt: Secret | None = None,
        base_url: str | None = None,
        timeout: object = None,
        max_retries: int = 2,
        total_timeout: float | None = None,
        max_connections: int = 1000,
        fallbacks: Sequence[str] | None = None,
        default_headers: Mapping[str, str] | None = None,
        http_client: Any = None,  # httpx's or httpx2's: no type names both
        observers: Sequence[Observer] = (),
        limits: Limits | None = None,
        allow_http: bool = False,
    ) -> None:
        api_key, jwt = hidden(api_key), hidden(jwt)
        settings = Settings.resolve(
            api_key=api_key,
            jwt=jwt,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            total_timeout=total_timeout,
            max_connections=max_connections,
            fallbacks=fallbacks,
            default_headers=default_headers,
            limits=limits,
            allow_http=allow_http,
        )
        self._start(settings, checked_observers(observers), http_client)

    def _start(self, settings: Settings, observers: tuple[Observer, ...], http_client: Any) -> None:
        self._settings = settings
        self._desk = Desk(settings, observers, runtime())
        self._requests = Requests(settings)
        self._connections = AsyncConnections(settings, http_client)
        self._sleep = sleep

    @property
    def chat(self) -> AsyncChat:
        return AsyncChat(self)

    @property
    def completions(self) -> AsyncCompletions:
        return AsyncCompletions(self)

    @property
    def router(self) -> AsyncRouter:
        return AsyncRouter(self)

    @property
    def models(self) -> AsyncModels:
        return AsyncModels(self)

    @property
    def providers(self) -> AsyncProviders:
        return AsyncProviders(self)

    async def aclose(self) -> None:
        """Close every connection. Later calls are refused."""
        await self._connections.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.base_url!r})"

    # Copies share settings and observers, and open connections of their own.

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self._settings, "observers": self._desk.observers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start(state["settings"], state["observers"], None)

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncLunar:
        twin = type(self).__new__(type(self))
        twin.__setstate__(self.__getstate__())
        return twin

    async def _run(self, job: Job, plan: Plan[Any]) -> Any:
        job.begin()
        try:
            send = next(plan)
            while True:
                if send.after > 0:
                    await self._sleep(send.after)
                reply = await self._send(job, send.call)
                try:
                    send = plan.send(reply)
                except StopIteration as stop:
                    reply = stop.value
                    break
        except BaseException:  # cancelled, or interrupted: never retried
            job.abort()
            raise
        if reply.error is not None:
            try:
                raise job.fail(bare(reply.error))
            finally:
                del reply  # or this frame and the error would keep each other, and the client
        return reply.answer if job.stream else job.succeed(reply.answer, reply.headers)

    async def _send(self, job: Job, call: Call) -> Reply[Any]:
        """One request, and what came of it. Only what is no failure of the call (cancellation) is raised."""
        started = job.runtime.clock()
        response = None
        try:
            response = await self._connections.send(self._requests, call, job)
            answer = await self._answer(job, call, response)
        except Exception as exc:  # noqa: BLE001  # whatever httpx, httpcore, ssl or the system raise
            error = redacted(as_error(exc), job.secret)
        except BaseException as exc:  # noqa: BLE001  # raised again, without the frames that hold the key
            if response is not None:
                await response.aclose()
            raise exc.with_traceback(None)  # noqa: B904  # it is the same exception
        else:
            seconds = job.runtime.clock() - started
            return Reply(call, answer, None, response.status_code, seconds, response.headers)
        seconds = job.runtime.clock() - started
        if response is None:
            return Reply(call, None, error, None, seconds)
        await response.aclose()
        return Reply(call, None, error, response.status_code, seconds, response.headers)

    async def _answer(self, job: Job, call: Call, response: Any) -> Any:
        status, headers = response.status_code, response.headers
        if not 200 <= status < 300:
            body = await self._error_body(response)
            error = answers.status_error(status, headers, body, now=job.runtime.now())
            raise explained(error, call, self._settings.credential)
        body = b""
        try:
            if call.stream:
                stream = self._stream(job, call, response)
                await stream.prime()
                return stream
            body = await self._body(response)
            return reader(call)(body)
        except ValueError as exc:
            raise answers.not_the_answer(status, headers, body, str(exc)) from None

    def _stream(self, job: Job, call: Call, response: Any) -> AsyncStream[Any]:
        parse = events.text_chunk if call.path == "/v1/completions" else events.chat_chunk
        return AsyncStream(job, response, parse)

    async def _body(self, response: Any) -> bytes:
        body = Body(response.headers.get("content-encoding"), self._settings.limits.body, cut=False)
        async for piece in response.aiter_raw():
            body.feed(piece)
        await response.aclose()
        return body.value()

    async def _error_body(self, response: Any) -> bytes:
        """What can be had of it: a status is worth reporting even if its text breaks off."""
        pieces = response.aiter_raw()
        body = None
        with suppress(Exception):  # whatever broke the text off, the status says more
            encoding = response.headers.get("content-encoding")
            body = Body(encoding, self._settings.limits.error_body, cut=True)
            async for piece in pieces:
                if not body.feed(piece):
                    break
        await pieces.aclose()
        return body.value() if body is not None else b""


class AsyncChat:
    def __init__(self, client: AsyncLunar) -> None:
        self.completions = AsyncChatCompletions(client)


class AsyncChatCompletions:
    def __init__(self, client: AsyncLunar) -> None:
        self._client = client

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
        """POST /v1/chat/completions. ``model="router"`` lets the service choose among ``models``, or all.

        Raises ConfigurationError before anything is sent, other LunarErrors after. Keywords that
        are not listed go through untouched.
        """
        keywords = {"model": model, "messages": messages, "stream": stream, **params}
        answer: ChatCompletion = await self._client._run(*self._client._desk.chat(keywords))
        return answer


class AsyncCompletions:
    def __init__(self, client: AsyncLunar) -> None:
        self._client = client

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
        answer: Completion = await self._client._run(*self._client._desk.text(keywords))
        return answer


class AsyncRouter:
    def __init__(self, client: AsyncLunar) -> None:
        self._client = client

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

    async def create(
        self,
        *,
        messages: Sequence[MessageParam],
        execute: bool = True,
        stream: bool = False,
        **params: Unpack[RouterParams],
    ) -> RoutedCompletion | AsyncStream[ChatCompletionChunk]:
        """POST /v1/router: choose a model for the messages and, unless ``execute=False``, ask it.

        ``models`` restricts the choice (at least 2); ``cost_weight`` from 0.0, higher prefers cheaper models.
        """
        keywords = {"messages": messages, "execute": execute, "stream": stream, **params}
        answer: RoutedCompletion = await self._client._run(*self._client._desk.router(keywords))
        return answer

    async def decide(
        self, *, messages: Sequence[MessageParam], **params: Unpack[DecideParams]
    ) -> RoutingDecision:
        """Which model the router would choose, and why; nothing is generated."""
        keywords = {"messages": messages, "execute": False, **params}
        answer: RoutedCompletion = await self._client._run(*self._client._desk.router(keywords))
        if answer.routing is None:
            raise TypeError("read_decision lets nothing else through")
        return answer.routing

    async def profiles(self) -> Profiles:
        """GET /v1/router/profiles: the models that the router knows."""
        answer: Profiles = await self._client._run(*self._client._desk.profiles())
        return answer


class AsyncModels:
    def __init__(self, client: AsyncLunar) -> None:
        self._client = client

    async def list(self) -> list[Model]:
        """GET /v1/models; a service without it is asked for its price list instead, and prices are kept."""
        answer: list[Model] = await self._client._run(*self._client._desk.models())
        return answer


class AsyncProviders:
    def __init__(self, client: AsyncLunar) -> None:
        self._client = client

    async def list(self, *, model: str | None = None) -> list[Provider]:
        """GET /v1/providers: who serves ``model`` (the service's own default: gpt-4o-mini)."""
        answer: list[Provider] = await self._client._run(*self._client._desk.providers(model))
        return answer
