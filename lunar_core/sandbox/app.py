"""The sandbox as an ASGI application: the contract's endpoints, and its own under ``/sandbox``.

Headers read on every request: ``x-sandbox-fault`` (``lunar_core.sandbox.faults``),
``x-sandbox-delay`` (seconds between streamed words), ``x-sandbox-session``
(``lunar_core.sandbox.log``), ``x-sandbox-usage`` (``lunar_core.sandbox.dialects``).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lunar_core.sandbox.admission import FaultError
from lunar_core.sandbox.errors import ServiceError, seconds
from lunar_core.sandbox.faults import FAULTS
from lunar_core.sandbox.log import Log
from lunar_core.sandbox.pages import Pages
from lunar_core.sandbox.requests import check
from lunar_core.sandbox.script import ScriptRequest, Scripts
from lunar_core.sandbox.service import Service
from lunar_core.sandbox.terminal import request_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from lunar_core.sandbox.dialects import Documented
    from lunar_core.sandbox.router import Router
    from lunar_core.sandbox.sources import Source

_SESSION = re.compile(r"/session/([^/]+)(/.*)?")


def make_app(
    dialect: Documented,
    router: Router,
    *,
    upstream: Source | None = None,
    delay: float = 0.0,
    show: Callable[[str], None] | None = None,
) -> ASGIApp:
    """Build the application; its state is its own.

    ``upstream``: answers in place of the built-in models. ``delay``: seconds between streamed words. ``show``: is given
    a line for each request that isn't the sandbox's own.
    """
    log = Log()
    scripts = Scripts()
    service = Service(dialect, router, log, scripts, upstream=upstream, delay=delay)
    own = _Own(log, scripts, {"dialect": dialect.name, "router": router.name, "delay": delay})
    own.facts["engine_version"] = router.version
    own.facts["generation"] = "upstream" if upstream else "built-in"
    pages = Pages(dialect, own.facts)
    post, get = ["POST"], ["GET"]

    async def http_error(request: Request, error: Exception) -> Response:
        """Answer 404 and 405 as FastAPI does."""
        failure = cast("HTTPException", error)
        try:
            service.refuse_stranger(request)
        except ServiceError as refusal:
            return await _service_error(request, refusal)
        return JSONResponse({"detail": failure.detail}, failure.status_code, failure.headers)

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", service.chat, methods=post),
            Route("/v1/completions", service.text, methods=post),
            Route("/v1/router", service.route, methods=post),
            Route("/v1/router/profiles", service.profiles, methods=get),
            Route("/v1/providers", service.providers, methods=get),
            Route("/v1/models", service.models, methods=get),
            Route("/v1/pricing/models", service.pricing, methods=get),
            Route("/v1/pricing/{provider}/{model}", service.price, methods=get),
            Route("/", pages.home, methods=get),
            Route("/docs", pages.docs, methods=get),
            Route("/openapi.json", pages.openapi, methods=get),
            Route("/health", pages.health, methods=get),
            Route("/sandbox", own.about, methods=get),
            Route("/sandbox/requests", own.requests, methods=get),
            Route("/sandbox/billed", own.billed, methods=get),
            Route("/sandbox/log", own.forget, methods=["DELETE"]),
            Route("/sandbox/faults", own.faults, methods=get),
            Route("/sandbox/script", own.script, methods=["GET", "POST", "DELETE"]),
        ],
        exception_handlers={
            ServiceError: _service_error,
            FaultError: _fault,
            HTTPException: http_error,
        },
    )
    return RequestRecorder(app, log, show)


class _Own:
    """The sandbox's own endpoints, under ``/sandbox``."""

    def __init__(self, log: Log, scripts: Scripts, facts: dict[str, Any]) -> None:
        self._log = log
        self._scripts = scripts
        self.facts = facts

    async def about(self, _request: Request) -> Response:
        """``GET /sandbox``."""
        return JSONResponse({"sandbox": True, **self.facts})

    async def requests(self, request: Request) -> Response:
        """``GET /sandbox/requests?session=&at_least=&timeout=``."""
        return JSONResponse(await self._read(request, "requests"))

    async def billed(self, request: Request) -> Response:
        """``GET /sandbox/billed?session=&at_least=&timeout=``."""
        return JSONResponse(await self._read(request, "billed"))

    async def forget(self, request: Request) -> Response:
        """``DELETE /sandbox/log?session=``: requests, bills and scripts."""
        self._log.clear(_session_in(request))
        self._scripts.clear(_session_in(request))
        return Response(status_code=204)

    async def script(self, request: Request) -> Response:
        """``/sandbox/script?session=``: GET what waits, POST more, DELETE it."""
        session = _session_in(request) or ""
        if request.method == "POST":
            self._scripts.add(session, check(ScriptRequest, await request.body()))
        if request.method == "DELETE":
            self._scripts.clear(session)
        return JSONResponse({"steps": self._scripts.remaining(session)})

    async def faults(self, _request: Request) -> Response:
        """``GET /sandbox/faults``."""
        return JSONResponse(dict(FAULTS))

    async def _read(self, request: Request, kind: str) -> list[dict[str, Any]]:
        query = request.query_params
        try:
            at_least, timeout = int(query.get("at_least", 0)), seconds(query.get("timeout", "5"))
        except ValueError:
            raise ServiceError(400, "at_least and timeout (in seconds) are numbers") from None
        session = _session_in(request)
        return await self._log.read(kind, session, at_least=at_least, timeout=timeout)


class RequestRecorder:
    """Records every request to ``/v1``, and keeps sessions apart by the path's prefix."""

    def __init__(self, app: ASGIApp, log: Log, show: Callable[[str], None] | None) -> None:
        self._app = app
        self._log = log
        self._show = show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = headers.get("x-sandbox-session", "")
        if prefixed := _SESSION.fullmatch(scope["path"]):
            session = prefixed[1]
            scope = {**scope, "path": prefixed[2] or "/"}
        method, path, query = scope["method"], scope["path"], scope["query_string"].decode("latin1")
        record: dict[str, Any] = {}
        extra_headers: dict[str, str] = {}
        if path.startswith("/v1/"):
            record = self._log.request(session, method, path, query, headers)
            extra_headers["x-request-id"] = record["request_id"]
        started = time.perf_counter()
        state = {"session": session, "started": started, "record": record, "headers": extra_headers}
        scope["state"] = {**scope.get("state", {}), **state}
        status: int | None = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = record["status"] = message["status"]
                extra = [(name.encode(), value.encode()) for name, value in extra_headers.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if self._show and not path.startswith("/sandbox"):
                took, bill = time.perf_counter() - started, scope["state"].get("bill")
                self._show(request_line(method, path, status, took, record=record, bill=bill))


def _session_in(request: Request) -> str | None:
    """The session whose records are requested: ``?session=``, else the path's or header's, else None for all."""
    return request.query_params.get("session", request.state.session or None)


async def _service_error(_request: Request, error: Exception) -> Response:
    failure = cast("ServiceError", error)
    return JSONResponse(failure.body, failure.status)


async def _fault(_request: Request, error: Exception) -> Response:
    return cast("FaultError", error).response
