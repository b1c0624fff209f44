"""The endpoints of the contract."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lunar_core.sandbox import faults
from lunar_core.sandbox.admission import Admission, Target, check_conversation
from lunar_core.sandbox.bills import Bill
from lunar_core.sandbox.catalogue import MODELS, PROFILED, Model, split_provider
from lunar_core.sandbox.connections import Abort, Hang
from lunar_core.sandbox.conversation import last_prompt
from lunar_core.sandbox.errors import ServiceError, seconds
from lunar_core.sandbox.provider_errors import context_exceeded
from lunar_core.sandbox.sources import BuiltIn, Source, SourceError, Task, prompt_size
from lunar_core.sandbox.streams import EventStream, events, interrupt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from starlette.requests import Request

    from lunar_core.sandbox.answers import Draft
    from lunar_core.sandbox.dialects import Documented, Head
    from lunar_core.sandbox.log import Log
    from lunar_core.sandbox.router import Route, Router
    from lunar_core.sandbox.script import Scripts
    from lunar_core.sandbox.usage import Tokens

USAGE_STYLES = ("last", "closing", "every", "none")
T = TypeVar("T")
_HALVED = ("hang-mid", "hangup-mid", "reset-mid", "cut-mid", "truncated", "malformed")


@dataclass(frozen=True)
class _Generation:
    """One request that generates, and everything that its answer is made of."""

    request: Request
    target: Target
    task: Task
    source: Source
    head: Head
    route: Route | None
    fault: faults.Fault | None


class Service:
    """Lunar's endpoints, in one dialect, with one router and one source of answers."""

    def __init__(
        self,
        dialect: Documented,
        router: Router,
        log: Log,
        scripts: Scripts,
        *,
        upstream: Source | None = None,
        delay: float = 0.0,
    ) -> None:
        self._dialect = dialect
        self._router = router
        self._log = log
        self._built_in = BuiltIn()
        self._source = upstream or self._built_in
        self._scripts = scripts
        self._admission = Admission(dialect, log, any_model=upstream is not None)
        self._delay = delay

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        payload, target, fault = await self._read(request, "chat")
        if target.model and not target.model.chat:
            raise ServiceError(
                400,
                f"Model '{target.requested_name}' does not support chat completions."
                " Use /v1/completions instead.",
            )
        if self._dialect.reads_options:
            check_conversation(payload)
        return await self._complete(
            request,
            "chat",
            target,
            payload["messages"] or [{"role": "user", "content": ""}],
            self._options(payload),
            fault=fault,
            stream=bool(payload.get("stream")),
        )

    async def text(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        payload, target, fault = await self._read(request, "text")
        limit = payload.get("max_tokens") or self._dialect.text_tokens
        return await self._complete(
            request,
            "text",
            target,
            [{"role": "user", "content": payload["prompt"]}],
            self._options({**payload, "max_tokens": limit}),
            fault=fault,
            stream=bool(payload.get("stream")),
        )

    async def route(self, request: Request) -> Response:
        """``POST /v1/router``."""
        raw, payload = await self._admission.read_body(request, "router")
        execute = payload.get("execute") is not False
        stream = bool(payload.get("stream")) and execute
        fault = self._admission.read_fault(request, None, raw)
        await self._admission.strike(fault, "router", "router", stream=stream)
        candidates = self._candidates(payload.get("models"))
        route = await self._router.route(
            last_prompt(payload["messages"])[0],
            [model for _, model in candidates],
            float(payload.get("cost_weight") or 0),
        )
        name = next(name for name, model in candidates if model.id == route.model)
        route = replace(route, model=name)
        request.state.record["model"] = name
        request.state.headers["x-sandbox-router"] = self._router.name
        if not execute:
            head = self._dialect.head("router", name, route)
            return _json_response(self._dialect.decision(head), fault)
        if not fault and "x-sandbox-fault" not in request.headers:
            fault = self._admission.read_fault(request, name, raw)
            await self._admission.strike(fault, "router", name, stream=stream)
        return await self._complete(
            request,
            "router",
            self._admission.find_target(name, None),
            payload["messages"],
            self._options({n: payload.get(n) for n in ("max_tokens", "temperature")}),
            fault=fault,
            stream=stream,
            route=route,
        )

    def _candidates(self, names: Sequence[str] | None) -> list[tuple[str, Model]]:
        """Find the router's candidates, in the request's order or the price list's.

        A name is compared without the fault that it asks for, and without its provider where the dialect allows one.
        Raises ServiceError: 400, for names without a routing profile.
        """
        profiled = {model.id: model for model in PROFILED}
        bases = {name: faults.split_fault(name)[0] for name in names or profiled}
        if self._dialect.candidates_have_providers:
            bases = {name: split_provider(base)[1] for name, base in bases.items()}
        if missing := [name for name, base in bases.items() if base not in profiled]:
            raise ServiceError(400, self._dialect.profiles_missing(missing, list(profiled)))
        return [(name, profiled[base]) for name, base in bases.items()]

    async def profiles(self, request: Request) -> Response:
        """``GET /v1/router/profiles``."""
        fault = await self._begin(request, router=True)
        return _json_response({"profiles": [m.id for m in PROFILED], "count": len(PROFILED)}, fault)

    async def providers(self, request: Request) -> Response:
        """``GET /v1/providers``."""
        fault = await self._begin(request, router=True)
        name = request.query_params.get("model", "gpt-4o-mini")
        return _json_response(self._dialect.providers(name), fault)

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        if not self._dialect.has_models:
            raise HTTPException(404)  # As for any path that doesn't exist.
        fault = await self._begin(request)
        data = [{"id": m.id, "object": "model", "owned_by": m.owner} for m in MODELS.values()]
        return _json_response({"object": "list", "data": data}, fault)

    async def pricing(self, request: Request) -> Response:
        """``GET /v1/pricing/models``, which needs no key."""
        fault = await self._apply_fault(request)
        return _json_response([_price_row(model) for model in MODELS.values()], fault)

    async def price(self, request: Request) -> Response:
        """``GET /v1/pricing/{provider}/{model}``, which needs no key either."""
        fault = await self._apply_fault(request)
        model = MODELS.get(request.path_params["model"])
        if model is None or request.path_params["provider"] not in model.providers:
            raise ServiceError(404, "Price not found")
        row = {"ModelId": model.id, "UpdatedAt": None, **_prices(model)}
        return _json_response(row, fault)

    def refuse_stranger(self, request: Request) -> None:
        """Refuse a request without a key to an unknown path, if the dialect does so.

        Raises ServiceError: 401 or 403.
        """
        if self._dialect.guards_unknown_paths:
            self._admission.authenticate(request, router=True)

    async def _begin(self, request: Request, *, router: bool = False) -> faults.Fault | None:
        self._admission.authenticate(request, router=router)
        return await self._apply_fault(request)

    async def _apply_fault(self, request: Request) -> faults.Fault | None:
        fault = self._admission.read_fault(request, None)
        await self._admission.strike(fault, "list", request.url.path)
        return fault

    async def _read(
        self, request: Request, kind: str
    ) -> tuple[dict[str, Any], Target, faults.Fault | None]:
        """Read a request that names its model."""
        raw, payload = await self._admission.read_body(request, kind)
        name = payload["model"]
        request.state.record["model"] = name
        fault = self._admission.read_fault(request, name, raw)
        await self._admission.strike(fault, kind, name, stream=bool(payload.get("stream")))
        forced = payload.get("provider") if self._dialect.reads_options else None
        return payload, self._admission.find_target(name, forced), fault

    def _options(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of a request that have an effect, besides model, messages and stream."""
        return payload if self._dialect.reads_options else {}

    async def _complete(
        self,
        request: Request,
        kind: str,
        target: Target,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        *,
        fault: faults.Fault | None,
        stream: bool,
        route: Route | None = None,
    ) -> Response:
        """Generate, bill and answer, whole or streamed, with the fault if there is one."""
        script, fault = await self._take_script(request, kind, target, fault, stream=stream)
        source = self._built_in if script else self._source
        model = target.model
        if model and not self._dialect.tells_reasoning:
            model = replace(model, reasons=False)
        session = request.state.record["session"]
        task = Task(kind, target.name, model, messages, options, session, script)
        if source is self._built_in:  # An upstream has windows of its own.
            self._check_window(task, target.requested_name)
        head = self._dialect.head(kind, target.requested_name, route)
        generation = _Generation(request, target, task, source, head, route, fault)
        return await (
            self._answer_in_stream(generation) if stream else self._answer_whole(generation)
        )

    async def _take_script(
        self,
        request: Request,
        kind: str,
        target: Target,
        fault: faults.Fault | None,
        *,
        stream: bool,
    ) -> tuple[Draft | None, faults.Fault | None]:
        """Take the next scripted answer, and the fault: the request's own, or the script's."""
        record = request.state.record
        if fault is not None:
            return None, fault
        step = await self._scripts.take(record["session"], request.state.payload)
        if step is None:
            return None, None
        if step.fail:
            fault, record["fault"] = faults.parse(step.fail), step.fail
            await self._admission.strike(fault, kind, target.requested_name, stream=stream)
        return step.draft(), fault

    async def _answer_whole(self, generation: _Generation) -> Response:
        """Answer in one JSON document."""
        dialect, head, fault = self._dialect, generation.head, generation.fault
        answer = await self._wait_for(head, generation.source.answer(generation.task))
        bill = self._open_bill(generation, answer.tokens)
        is_lost = fault is not None and fault.name in _HALVED
        bill.close(usage_sent=not is_lost, aborted=is_lost)
        return _json_response(dialect.completion(head, answer, bill.usage(dialect)), fault)

    async def _answer_in_stream(self, generation: _Generation) -> Response:
        """Answer as a stream of events."""
        dialect, request, head = self._dialect, generation.request, generation.head
        options, fault, route = generation.task.options, generation.fault, generation.route
        style = request.headers.get("x-sandbox-usage") or dialect.usage_style(options)
        if style not in USAGE_STYLES:
            raise ServiceError(400, f"x-sandbox-usage is one of {', '.join(USAGE_STYLES)}")
        delay = self._delay_of(request)
        tokens, pieces = await self._wait_for(head, generation.source.stream(generation.task))
        flow = events(
            dialect,
            head,
            pieces,
            choices=options.get("n") or 1,
            style=style,
            bill=self._open_bill(generation, tokens, "streamed"),
        )
        if fault:
            error = dialect.error_event(head, fault.reason(head.model))
            flow = interrupt(fault, flow, error, done_after_error=dialect.done_after_error)
        headers = route.as_headers() if route and dialect.route_in_headers else {}
        return EventStream(flow, delay=delay, headers=headers)

    def _open_bill(self, generation: _Generation, tokens: Tokens, *tags: str) -> Bill:
        state = generation.request.state
        bill = state.bill = Bill(
            self._log,
            state.record,
            generation.head,
            generation.target,
            tokens=tokens,
            started=state.started,
            tags=[*tags, *(("routed",) if generation.route else ())],
        )
        return bill

    def _check_window(self, task: Task, requested_name: str) -> None:
        """Refuse a prompt that doesn't fit into the model's window together with its answer.

        Raises ServiceError as the dialect says it.
        """
        if task.model is None:
            return
        is_text = task.kind == "text"
        prompt = prompt_size(task)
        limits = (task.options.get(name) for name in ("max_tokens", "max_completion_tokens"))
        completion = next((limit for limit in limits if limit), 0)
        if prompt + completion > task.model.window:
            sentence = context_exceeded(task.model.window, prompt, completion, is_text=is_text)
            raise self._dialect.context_exceeded(requested_name, sentence, task.kind)

    async def _wait_for(self, head: Head, generating: Awaitable[T]) -> T:
        """Wait for a source. Its failures, also an upstream's rate limits, become the service's 502."""
        try:
            return await generating
        except SourceError as error:
            reason = self._dialect.describe_failure(
                head.model, f"upstream error: {error}", head.kind
            )
            raise ServiceError(502, reason) from error

    def _delay_of(self, request: Request) -> float:
        try:
            return seconds(request.headers.get("x-sandbox-delay", str(self._delay)))
        except ValueError:
            raise ServiceError(400, "x-sandbox-delay is a number of seconds") from None


def _json_response(content: Any, fault: faults.Fault | None) -> Response:
    """Send an answer, or half of it for a fault in the middle."""
    if fault is None or fault.name not in _HALVED:
        return JSONResponse(content)
    body = json.dumps(content).encode()
    half = body[: len(body) // 2]
    if fault.name == "hang-mid":
        return Hang(half, len(body))
    if fault.name in ("truncated", "malformed"):
        return Response(half, media_type="application/json")
    return Abort(half, len(body), reset=fault.name == "reset-mid")


def _prices(model: Model) -> dict[str, float]:
    """Write the prices of a million tokens in USD."""
    return {
        "input_per_million": float(model.input),
        "output_per_million": float(model.output),
        "cache_input_per_million": float(model.cached),
    }


def _price_row(model: Model) -> dict[str, Any]:
    prices = _prices(model)
    providers = [{"id": name, "model_id": model.id, **prices} for name in model.providers]
    return {"id": model.id, "owned_by": model.owner, "providers": providers, **prices}
