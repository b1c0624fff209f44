"""Sends requests through an httpx client: the caller's own, or one that we make.

Ours uses our Transport. The caller's may use any transport: httpx's, httpx2's, a mock, or ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio.lowlevel import checkpoint

from lunar_core.client import responses
from lunar_core.client.call import Call
from lunar_core.client.failures import as_error
from lunar_core.client.pauses import AsyncPauses, Pauses
from lunar_core.client.requests import RequestBuilder, ends_of, within
from lunar_core.client.responses import AsyncResponse, Response, home, time_limit
from lunar_core.errors import APIConnectionError, ConfigurationError, LunarError
from lunar_core.settings import Settings
from lunar_core.wire.api_requests import APIRequest

if TYPE_CHECKING:
    from lunar_core.client.own_clients import OwnAsyncClient, OwnClient

_GRACE_SECONDS = 0.1
"""How long after the call's deadline an injected client is stopped.

The transport below it times each step by the same deadline, and should fail first: it knows whether anything was sent.
"""


class Connections:
    """The httpx client of one Lunar."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = _check_client(injected, "Client", "close")
        self._own: list[OwnClient] = []
        self._pauses = Pauses()
        self._is_closed = False

    def send(self, requests: RequestBuilder, api_request: APIRequest, call: Call) -> Response:
        """Send a request and return the response, its body unread. Raises what the client raises: see ``explain``."""
        responses.close_dropped()
        timeout = within(call.timeout, call.time_left())
        client = self._injected
        if client is None:
            client = self._client(call)
            request = requests.build(api_request, timeout, call)
        else:
            request = client.build_request(**requests.keywords(api_request, timeout, call))
        authorizer = requests.authorizer(call)
        answer = client.send(request, stream=True, auth=authorizer, follow_redirects=False)
        return Response(answer, ends_of(call), call.secret, self.explain)

    def explain(self, error: Exception) -> LunarError:
        """Turn what the client raised into a LunarError."""
        return _explain(error, is_closed=self._is_closed)

    def _client(self, call: Call) -> OwnClient:
        _refuse_closed(call, is_closed=self._is_closed)
        if not self._own:
            from lunar_core.client.own_clients import OwnClient

            # Threads may get here together: the first one's is used, and the others' hold nothing yet.
            self._own.append(OwnClient(self._settings))
        return self._own[0]

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt of a call. ``close`` ends the wait."""
        self._pauses.wait(seconds)

    def close(self) -> None:
        """Close our own client, and end the waits of other threads."""
        if self._injected is None:
            self._is_closed = True
            self._pauses.end()
        for client in self._own:
            client.close()
        responses.close_dropped()


class AsyncConnections:
    """The httpx client of one AsyncLunar."""

    def __init__(self, settings: Settings, injected: Any) -> None:
        self._settings = settings
        self._injected = _check_client(injected, "AsyncClient", "aclose")
        self._own: list[OwnAsyncClient] = []
        self._pauses = AsyncPauses()
        self._is_closed = False

    async def send(
        self, requests: RequestBuilder, api_request: APIRequest, call: Call
    ) -> AsyncResponse:
        """Send a request and return the response, its body unread. Raises what the client raises: see ``explain``."""
        await responses.async_close_dropped()
        client = self._client(call) if self._injected is None else self._injected
        # A cancellation that is due takes effect here, because a request that was written is billed. Not later: of a
        # hundred calls at once, all would be built before the first is sent.
        await checkpoint()
        timeout = within(call.timeout, call.time_left())
        ends = ends_of(call)
        if self._injected is None:
            request = requests.build(api_request, timeout, call)
        else:
            request = client.build_request(**requests.keywords(api_request, timeout, call))
        authorizer = requests.authorizer(call)
        with time_limit(None if self._injected is None or ends is None else ends + _GRACE_SECONDS):
            answer = await client.send(
                request, stream=True, auth=authorizer, follow_redirects=False
            )
        return AsyncResponse(answer, ends, call.secret, self.explain)

    def explain(self, error: Exception) -> LunarError:
        """Turn what the client raised into a LunarError."""
        return _explain(error, is_closed=self._is_closed)

    def _client(self, call: Call) -> OwnAsyncClient:
        _refuse_closed(call, is_closed=self._is_closed)
        if home()[1] is None:
            raise ConfigurationError(
                "AsyncLunar needs asyncio (or uvloop), and no event loop of that kind runs here. On trio, give it an "
                "httpx.AsyncClient of your own: http_client="
            )
        if not self._own:
            from lunar_core.client.own_clients import OwnAsyncClient

            self._own.append(OwnAsyncClient(self._settings))
        return self._own[0]

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt of a call. ``aclose`` ends the wait."""
        await self._pauses.wait(seconds)

    async def aclose(self) -> None:
        """Close our own client's connections in this event loop. Those of other loops close as their loops end."""
        if self._injected is None:
            self._is_closed = True
            self._pauses.end()
        for client in self._own:
            await client.aclose()
        await responses.async_close_dropped()


def _check_client(injected: Any, kind: str, end: str) -> Any:
    """``injected``, if it is a client of the right kind. The wrong kind would fail late, with a puzzling error."""
    needed = ("build_request", "send", end)
    if injected is None or all(callable(getattr(injected, name, None)) for name in needed):
        return injected
    raise ConfigurationError(f"http_client: expected an httpx.{kind} or httpx2.{kind}")


def _refuse_closed(call: Call, *, is_closed: bool) -> None:
    if is_closed and call.policy.attempts:  # it has waited for its next attempt
        raise _closed_error(was_sent=False)
    if is_closed:
        raise ConfigurationError("this client was closed; make a new one")


def _explain(error: Exception, *, is_closed: bool) -> LunarError:
    failure = as_error(error)
    return (
        failure if not is_closed or failure is error else _closed_error(was_sent=failure.was_sent)
    )


def _closed_error(*, was_sent: bool) -> APIConnectionError:
    error = APIConnectionError("this client was closed")
    error.was_sent = was_sent
    error.is_retryable = False
    return error
