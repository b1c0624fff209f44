"""The endpoints of the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lunar_core.sandbox import faults
from lunar_core.sandbox.bills import Bill
from lunar_core.sandbox.catalogue import MODELS, PROFILED, Model, split_provider
from lunar_core.sandbox.connections import Abort, Hang
from lunar_core.sandbox.dialects import Documented
from lunar_core.sandbox.door import Door, Target, check_conversation
from lunar_core.sandbox.log import Log
from lunar_core.sandbox.refusal import Refusal, all_failed
from lunar_core.sandbox.requests import check
from lunar_core.sandbox.router import Route, Router
from lunar_core.sandbox.sources import Ask, BuiltIn, Source
from lunar_core.sandbox.streams import EventStream, events, interrupt
from lunar_core.sandbox.usage import Tokens

USAGE_STYLES = ("last", "closing", "every", "none")
_HALVED = ("hang-mid", "hangup-mid", "reset-mid", "cut-mid", "truncated", "malformed")


class Service:
    """Lunar's endpoints, in one dialect, with one router and one source of answers."""

    def __init__(
        self,
        dialect: Documented,
        router: Router,
        log: Log,
        *,
        upstream: Source | None = None,
        delay: float = 0.0,
    ) -> None:
        self._dialect = dialect
        self._router = router
        self._log = log
        self._source = upstream or BuiltIn()
        self._door = Door(dialect, log, any_model=upstream is not None)
        self._delay = delay

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        payload, target, fault = await self._read(request, "chat")
        if target.model and not target.model.chat:
            raise Refusal(
                400,
                f"Model '{target.said}' does not support chat completions."
                " Use /v1/completions instead.",
            )
        options: Mapping[str, Any] = {}
        if self._dialect.reads_options:
            check_conversation(payload)
            options = payload
        return await self._complete(
            request,
            "chat",
            target,
            payload["messages"],
            options,
            fault,
            stream=bool(payload.get("stream")),
        )

    async def text(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        payload, target, fault = await self._read(request, "text")
        read = ("max_tokens", "stop", "n", "stream_options") if self._dialect.reads_options else ()
        return await self._complete(
            request,
            "text",
            target,
            [{"role": "user", "content": payload["prompt"]}],
            {name: payload[name] for name in read if name in payload},
            fault,
            stream=bool(payload.get("stream")),
        )

    async def route(self, request: Request) -> Response:
        """``POST /v1/router``."""
        raw = await self._door.body(request)
        self._door.authenticate(request, router=True)
        payload = check(self._dialect.bodies["router"], raw)
        fault = self._door.fault(request, None, raw)
        await self._door.strike(fault, "router")
        # A candidate may carry a provider and a fault; it is compared without them.
        named = {faults.in_model(split_provider(n)[1])[0]: n for n in payload.get("models") or ()}
        profiled = {model.id: model for model in PROFILED}
        if missing := [name for id, name in named.items() if id not in profiled]:
            raise Refusal(400, self._dialect.missing_profiles(missing, list(profiled)))
        candidates = [model for model in PROFILED if not named or model.id in named]
        route = await self._router.route(
            _last_words(payload["messages"]), candidates, float(payload.get("cost_weight") or 0)
        )
        said = named.get(route.model, route.model)
        request.state.record["model"] = said
        request.state.headers["x-sandbox-router"] = self._router.name
        if payload.get("execute") is False:
            return JSONResponse(self._dialect.decision(self._dialect.head("router", said, route)))
        if fault is None:
            fault = self._door.fault(request, said, raw)
            await self._door.strike(fault, said)
        return await self._complete(
            request,
            "router",
            self._door.target(said, None),
            payload["messages"],
            {"max_tokens": payload.get("max_tokens")} if self._dialect.reads_options else {},
            fault,
            stream=bool(payload.get("stream")),
            route=route,
        )

    async def profiles(self, request: Request) -> Response:
        """``GET /v1/router/profiles``."""
        await self._begin(request, router=True)
        return JSONResponse({"profiles": [m.id for m in PROFILED], "count": len(PROFILED)})

    async def providers(self, request: Request) -> Response:
        """``GET /v1/providers``."""
        await self._begin(request, router=True)
        name = request.query_params.get("model", "gpt-4o-mini")
        model = MODELS.get(split_provider(name)[1])
        if model is None:
            raise Refusal(404, self._dialect.model_missing(name))
        return JSONResponse(self._dialect.providers(model))

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        if not self._dialect.has_models:
            raise HTTPException(404)
        await self._begin(request)
        data = [{"id": m.id, "object": "model", "owned_by": m.owner} for m in MODELS.values()]
        return JSONResponse({"object": "list", "data": data})

    async def pricing(self, request: Request) -> Response:
        """``GET /v1/pricing/models``, which needs no key."""
        await self._door.strike(self._door.fault(request, None), "pricing")
        return JSONResponse([_priced(model) for model in MODELS.values()])

    async def _begin(self, request: Request, *, router: bool = False) -> None:
        self._door.authenticate(request, router=router)
        await self._door.strike(self._door.fault(request, None), request.url.path)

    async def _read(
        self, request: Request, kind: str
    ) -> tuple[dict[str, Any], Target, faults.Fault | None]:
        """Read a request that names its model."""
        raw = await self._door.body(request)
        self._door.authenticate(request)
        payload = check(self._dialect.bodies[kind], raw)
        said = payload["model"]
        request.state.record["model"] = said
        fault = self._door.fault(request, said, raw)
        await self._door.strike(fault, said)
        forced = payload.get("provider") if self._dialect.reads_options else None
        return payload, self._door.target(said, forced), fault

    async def _complete(
        self,
        request: Request,
        kind: str,
        target: Target,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        fault: faults.Fault | None,
        *,
        stream: bool,
        route: Route | None = None,
    ) -> Response:
        """Generate, bill and answer, whole or streamed; a fault strikes on the way."""
        record, dialect = request.state.record, self._dialect
        head = dialect.head(kind, target.said, route)
        reason = all_failed(target.said, "upstream error")
        error, done_follows = dialect.stream_error(head, reason)
        if fault and not stream and (told := faults.error_body(fault, error)) is not None:
            return JSONResponse(told)
        ask = Ask(kind, target.name, target.model, messages, options, record["session"])
        tags = [tag for tag, true in (("streamed", stream), ("routed", route)) if true]

        def bill(tokens: Tokens) -> Bill:
            return Bill(self._log, record, head.id, target, tokens, request.state.started, tags)

        if not stream:
            answer = await self._source.answer(ask)
            charged = bill(answer.tokens)
            lost = fault is not None and fault.name in _HALVED
            charged.close(usage_sent=not lost, aborted=lost)
            return _whole(dialect.completion(head, answer, charged.usage(dialect)), fault)
        style = request.headers.get("x-sandbox-usage") or dialect.usage_style(options)
        if style not in USAGE_STYLES:
            raise Refusal(400, f"x-sandbox-usage is one of {', '.join(USAGE_STYLES)}")
        delay = self._delay_of(request)
        tokens, pieces = await self._source.stream(ask)
        flow = events(
            dialect,
            head,
            pieces,
            choices=options.get("n") or 1,
            style=style,
            bill=bill(tokens),
        )
        if fault:
            flow = interrupt(fault, flow, error, done_follows=done_follows)
        headers = {} if route is None else dialect.route_headers(route)
        return EventStream(flow, delay=delay, headers=headers)

    def _delay_of(self, request: Request) -> float:
        try:
            return float(request.headers.get("x-sandbox-delay", self._delay))
        except ValueError:
            raise Refusal(400, "x-sandbox-delay is a number of seconds") from None


def _last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what is routed: the text of the last user message (or of the last message)."""
    said = [message for message in messages if message["role"] == "user"] or messages
    return str(said[-1]["content"])


def _whole(content: Mapping[str, Any], fault: faults.Fault | None) -> Response:
    """Send an answer; or half of it, for the faults that strike in the middle."""
    if fault is None or fault.name not in _HALVED:
        return JSONResponse(content)
    body = json.dumps(content).encode()
    half = body[: len(body) // 2]
    if fault.name == "hang-mid":
        return Hang(start=half, length=len(body))
    if fault.name in ("truncated", "malformed"):
        return Response(half, media_type="application/json")
    return Abort(reset=fault.name == "reset-mid", start=half, length=len(body))


def _priced(model: Model) -> dict[str, Any]:
    prices = {
        "input_per_million": float(model.input),
        "output_per_million": float(model.output),
        "cache_input_per_million": float(model.cached),
    }
    providers = [{"id": id, "model_id": model.id, **prices} for id in model.providers]
    return {"id": model.id, "owned_by": model.owner, "providers": providers, **prices}
