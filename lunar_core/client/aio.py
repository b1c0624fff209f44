"""AsyncLunar: sends the requests of a Call as its plan says. ``sync.py`` is the same without ``await``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from typing_extensions import Self

from lunar_core.checks import Limits
from lunar_core.client.advice import append_attempts
from lunar_core.client.aio_resources import (
    AsyncChat,
    AsyncCompletions,
    AsyncModels,
    AsyncProviders,
    AsyncRouter,
)
from lunar_core.client.aio_stream import AsyncStream
from lunar_core.client.attempts import Plan, Reply
from lunar_core.client.body_buffer import BodyBuffer
from lunar_core.client.call import Call, runtime
from lunar_core.client.connections import AsyncConnections
from lunar_core.client.failures import complete_error, strip_frames
from lunar_core.client.logs import log_attempt, log_interrupted, log_next, switch_on
from lunar_core.client.notices import CostNotice
from lunar_core.client.planner import Planner, choose_reader
from lunar_core.client.requests import RequestBuilder
from lunar_core.credentials import Secret, hide_secret, hide_secrets
from lunar_core.observers import Observer, checked_observers
from lunar_core.settings import Settings
from lunar_core.wire import error_responses, events
from lunar_core.wire.api_requests import APIRequest


class AsyncLunar:
    """A client of the Lunar API, for asyncio.

    ``api_key`` or ``jwt``: a string, or a function that returns one and is called for each request. Default: the
    environment (LUNAR_API_KEY, LUNAR_JWT). ``base_url``: default LUNAR_BASE_URL, else the hosted service.
    ``timeout``: seconds, ``(connect, read)``, a Timeout or httpx's own. ``total_timeout``: seconds for a whole call
    with its retries, its fallbacks and the body of a stream. ``max_retries``: per model, after transient failures.
    ``fallbacks``: models to ask when the first one fails. ``max_connections``: a call beyond them waits.
    ``default_headers``: sent with each request, beside the client's own. ``limits``: bytes that an answer may have.
    ``allow_http``: True lets the key go over plain http to another machine. ``tags``: what the calls of this client
    are for; tags of a ``lunar_core.tags`` block override them. ``observers``: see Observer. ``http_client``: an httpx
    or httpx2 AsyncClient of your own, which ``aclose()`` leaves open.

    One client may be shared by any number of tasks and used on several event loops. It may be forked, copied and
    pickled. Raises ConfigurationError that names a setting that cannot work.

    >>> async def main():
    ...     async with AsyncLunar() as client:
    ...         answer = await client.chat.completions.create(
    ...             model="router", messages=[{"role": "user", "content": "Say hello"}]
    ...         )
    ...         print(answer.choices[0].message.content, answer.cost)
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
        tags: Mapping[str, str] | None = None,
    ) -> None:
        api_key, jwt = hide_secret(api_key), hide_secret(jwt)
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
            tags=tags,
        )
        self._start(settings, checked_observers(observers), http_client, CostNotice())

    @classmethod
    def _from_settings(
        cls,
        settings: Settings,
        observers: tuple[Observer, ...],
        http_client: Any,  # see __init__
        cost_notice: CostNotice,
    ) -> Self:
        """A client with checked settings. ``cost_notice``: shared with the clients of one user, who is warned once."""
        client = cls.__new__(cls)
        client._start(settings, observers, http_client, cost_notice)
        return client

    def _start(
        self,
        settings: Settings,
        observers: tuple[Observer, ...],
        http_client: Any,
        cost_notice: CostNotice,
    ) -> None:
        switch_on()
        self._settings = settings
        self._planner = Planner(settings, observers, runtime(), cost_notice)
        self._requests = RequestBuilder(settings)
        self._connections = AsyncConnections(settings, http_client)
        self._sleep = self._connections.pause
        self._shares_connections = False

    @property
    def chat(self) -> AsyncChat:
        return AsyncChat(self._run, self._planner)

    @property
    def completions(self) -> AsyncCompletions:
        return AsyncCompletions(self._run, self._planner)

    @property
    def router(self) -> AsyncRouter:
        return AsyncRouter(self._run, self._planner)

    @property
    def models(self) -> AsyncModels:
        return AsyncModels(self._run, self._planner)

    @property
    def providers(self) -> AsyncProviders:
        return AsyncProviders(self._run, self._planner)

    def with_options(self, **settings: Any) -> Self:  # each is checked, by its name
        """Return a client with some other settings on the same connections. Closing it does not close them.

        ``settings``: keywords of the constructor, except those of the connections: ``base_url``, ``allow_http``,
        ``max_connections``, ``http_client``. Raises ConfigurationError that names the wrong one.

        >>> patient = AsyncLunar("pk_live_...").with_options(max_retries=5, timeout=120)
        """
        settings = hide_secrets(settings)
        observers = settings.pop("observers", self._planner.observers)
        twin = self._from_settings(
            self._settings.with_changes(settings),
            checked_observers(observers),
            None,
            self._planner.cost_notice,
        )
        twin._connections = self._connections
        twin._sleep = self._sleep
        twin._shares_connections = True
        return twin

    async def aclose(self) -> None:
        """Close every connection; later calls fail. A client made by ``with_options`` closes nothing."""
        if not self._shares_connections:
            await self._connections.aclose()

    close = aclose

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
        return {"settings": self._settings, "observers": self._planner.observers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start(state["settings"], state["observers"], None, CostNotice())

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncLunar:
        twin = type(self).__new__(type(self))
        twin.__setstate__(self.__getstate__())
        return twin

    async def _run(self, call: Call, plan: Plan[Any]) -> Any:
        await call.abegin()
        try:
            send = next(plan)
            while True:
                if send.after > 0:
                    await self._sleep(send.after)
                reply = await self._send(call, send.request)
                log_attempt(call, reply)
                try:
                    send = plan.send(reply)
                except StopIteration as stop:
                    reply = stop.value
                    break
                log_next(call, reply, send)
            if reply.error is not None:
                try:
                    append_attempts(reply.error, call.policy.attempts)
                    raise call.fail(strip_frames(reply.error))
                finally:
                    del reply  # or this frame and the error would keep each other alive
            return reply.answer if call.stream else call.succeed(reply.answer, reply.headers)
        except BaseException as interruption:  # never retried, and reported if it was not yet
            # GeneratorExit: the coroutine was dropped while it waited, perhaps by the garbage collector.
            call.is_finalized = isinstance(interruption, GeneratorExit)
            call.abort()
            raise

    async def _send(self, call: Call, request: APIRequest) -> Reply[Any]:
        """Make one request and return its Reply, failures included. Raises only a cancellation or an interruption."""
        started = call.runtime.clock()
        response = None
        try:
            response = await self._connections.send(self._requests, request, call)
            answer = await self._answer(call, request, response)
        except Exception as exc:  # noqa: BLE001  # whatever a client, a hook or the system raises: explain() names it
            error = complete_error(
                self._connections.explain(exc),
                call,
                request=request,
                settings=self._settings,
                headers=None if response is None else response.headers,
            )
        except BaseException as exc:  # noqa: BLE001  # cancelled or interrupted: raised below, without frames that hold the key
            seconds = call.runtime.clock() - started
            call.policy.record_interrupted(request, exc, seconds)
            log_interrupted(call, request, exc, seconds)
            if response is not None:
                await response.aclose()
            raise exc.with_traceback(None)  # noqa: B904  # it is the same exception
        else:
            seconds = call.runtime.clock() - started
            return Reply(request, answer, None, response.status_code, seconds, response.headers)
        seconds = call.runtime.clock() - started
        if response is None:
            return Reply(request, None, error, None, seconds)
        await response.aclose()
        return Reply(request, None, error, response.status_code, seconds, response.headers)

    async def _answer(self, call: Call, request: APIRequest, response: Any) -> Any:
        status, headers = response.status_code, response.headers
        if not 200 <= status < 300:
            body = await self._error_body(response)
            raise error_responses.make_status_error(status, headers, body, now=call.runtime.now())
        body = b""
        try:
            if request.stream:
                stream = self._stream(call, request, response)
                await stream.prime()
                return stream
            body = await self._body(response)
            return choose_reader(request)(body)
        except ValueError as exc:
            raise error_responses.make_answer_error(status, headers, body, str(exc)) from None

    def _stream(self, call: Call, request: APIRequest, response: Any) -> AsyncStream[Any]:
        parse = events.text_chunk if request.path == "/v1/completions" else events.chat_chunk
        return AsyncStream(call, response, parse)

    async def _body(self, response: Any) -> bytes:
        body = BodyBuffer(
            response.headers.get("content-encoding"), self._settings.limits.body, cut=False
        )
        while (piece := await response.read()) is not None:
            body.feed(piece)
        await response.aclose()
        return body.value()

    async def _error_body(self, response: Any) -> bytes:
        """The body of an error response, or the part that arrives: the status alone is worth reporting."""
        body = None
        with suppress(Exception):  # whatever broke the text off, the status says more
            encoding = response.headers.get("content-encoding")
            body = BodyBuffer(encoding, self._settings.limits.error_body, cut=True)
            while (piece := await response.read()) is not None:
                if not body.feed(piece):
                    break
        return body.value() if body is not None else b""
