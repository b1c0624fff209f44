"""Checks each request before it is answered: its key, its body, the fault that it names, its model.

Keys: any ``x-api-key`` that begins with ``pk_``, or ``Authorization: Bearer`` with three parts
between dots (the form of a JWT; nothing is verified). An ``x-api-key`` is read first.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from lunar_core.sandbox import faults
from lunar_core.sandbox.catalogue import MODELS, PROVIDERS, Model, split_provider
from lunar_core.sandbox.connections import Abort, Hang
from lunar_core.sandbox.dialects import NO_KEY, Documented
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.provider_errors import provider_error, too_long_by_one
from lunar_core.sandbox.requests import check

if TYPE_CHECKING:
    from starlette.requests import Request

    from lunar_core.sandbox.log import Log

# FastAPI's error for a body whose Content-Type is not JSON's, which it reads as text.
_NO_OBJECT = {
    "type": "model_attributes_type",
    "loc": ["body"],
    "msg": "Input should be a valid dictionary or object to extract fields from",
}
_JSON_TYPE = re.compile(r"application/(?:json|[^ ]+\+json)")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+=*", re.ASCII)


@dataclass(frozen=True)
class Target:
    """The model that answers a request."""

    requested_name: str
    """As the request names it; answers echo this."""
    name: str
    """Without provider and fault."""
    model: Model | None
    """Its entry in the catalogue; only an upstream has models without one."""
    provider: str


class FaultError(Exception):
    """Ends a request with the answer of a fault."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Admission:
    """Lets requests in, or ends them with ``ServiceError`` or ``FaultError``."""

    def __init__(self, dialect: Documented, log: Log, *, any_model: bool) -> None:
        self._dialect = dialect
        self._log = log
        self._any_model = any_model
        self._counters = faults.FaultCounters()

    async def read_body(self, request: Request, kind: str) -> tuple[bytes, dict[str, Any]]:
        """Read and check a body. Returns its bytes and its decoded JSON."""
        raw = await request.body()
        self._log.body(request.state.record, raw)
        self.authenticate(request, router=kind == "router")
        content_type = (
            request.headers.get("content-type", "application/json").partition(";")[0].strip()
        )
        if not (self._dialect.reads_any_type or _JSON_TYPE.fullmatch(content_type.lower())):
            text = raw.decode("utf-8", "replace")
            raise ServiceError(422, [{**_NO_OBJECT, "input": text}])
        payload = check(self._dialect.bodies[kind], raw)
        request.state.payload = payload
        return raw, payload

    def authenticate(self, request: Request, *, router: bool = False) -> None:
        """Refuse a request without a key; ``router``: by the rule of the router's endpoints."""
        dialect = self._dialect
        key, bearer = request.headers.get("x-api-key"), request.headers.get("authorization", "")
        scheme, _, token = bearer.partition(" ")
        jwt = scheme.lower() == "bearer" and (not router or dialect.router_takes_jwt)
        if key is not None:
            if not key.startswith("pk_"):
                raise ServiceError(*(dialect.router_with_bad_key if router else (401, NO_KEY)))
        elif not (jwt and _JWT.fullmatch(token)):
            raise ServiceError(*(dialect.router_without_key if router else (401, NO_KEY)))

    def read_fault(
        self, request: Request, model: str | None, raw: bytes = b""
    ) -> faults.Fault | None:
        """The fault that this request names in its header or in its model's name; None without."""
        spec = request.headers.get("x-sandbox-fault")
        if spec is None and model is not None:
            spec = faults.split_fault(model)[1]
        if not spec:
            return None
        fault, record = faults.parse(spec), request.state.record
        key = request.headers.get("idempotency-key") or hashlib.sha256(raw).hexdigest()
        if not self._counters.due(fault, record["session"], key):
            return None
        record["fault"] = spec
        return fault

    async def strike(
        self, fault: faults.Fault | None, kind: str, model: str, *, stream: bool = False
    ) -> None:
        """Apply a fault that needs no generated answer. Raises FaultError or ServiceError."""
        if fault is None:
            return
        if fault.name == "context-length":
            raise self._dialect.context_exceeded(model, too_long_by_one(model), kind)
        reason = fault.reason(model)
        detail = self._detail(
            fault.status, model, self._dialect.describe_failure(model, reason, kind)
        )
        if error := faults.error_response(fault, detail):
            raise FaultError(Response(error.body, error.status, error.headers))
        event = self._dialect.error_event(self._dialect.head(kind, model), reason)
        if not stream and (body := faults.error_body(fault, event)) is not None:
            raise FaultError(JSONResponse(body))
        if fault.name == "slow":
            await asyncio.sleep(1.0 if fault.value is None else fault.value)
        if fault.name == "hang":
            raise FaultError(Hang())
        if fault.name in ("hangup", "reset"):
            raise FaultError(Abort(reset=fault.name == "reset"))

    def find_target(self, requested_name: str, forced: str | None) -> Target:
        """Find the model; ``forced`` is the request's ``provider``."""
        base, _ = faults.split_fault(requested_name)
        provider, name = split_provider(base)
        if self._any_model and provider not in PROVIDERS:  # An upstream's own name with a slash.
            provider, name = None, base
        provider = forced or provider
        model = MODELS.get(name)
        providers = model.providers if model else PROVIDERS if self._any_model else ()
        if provider in self._dialect.direct_providers and provider not in providers:
            reason = provider_error("no-model", f"{provider}/{name}")
            raise ServiceError(502, self._dialect.describe_failure(name, reason))
        if model is None and not self._any_model:
            raise ServiceError(404, self._dialect.model_missing(requested_name))
        if provider is not None and provider not in providers:
            raise ServiceError(404, self._dialect.provider_missing(provider, name))
        return Target(
            requested_name, name, model, provider or (model.owner if model else "upstream")
        )

    def _detail(self, status: int | None, model: str, reason: str) -> Any:
        """The ``detail`` that the service sends with a status."""
        missing = {"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}
        details = {
            401: NO_KEY,
            403: "Unauthorized",
            404: self._dialect.model_missing(model),
            422: [{**missing, "input": {}}],
            429: "Rate limit exceeded",
        }
        if status is not None and status >= 500:
            return reason
        return details.get(status or 0, f"Refused by the sandbox ({status})")


def check_conversation(payload: Mapping[str, Any]) -> None:
    """Refuse what OpenAI refuses: tool results without their calls, choices without their tools.

    Raises ServiceError: 400.
    """
    open_calls: set[str] = set()
    for number, message in enumerate(payload["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                raise ServiceError(
                    400,
                    f"messages[{number}]: no tool call before it has the id"
                    f" {message['tool_call_id']!r}",
                )
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            raise ServiceError(
                400, f"messages[{number}]: tool calls {sorted(open_calls)} have no tool message yet"
            )
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    if open_calls:
        raise ServiceError(400, f"tool calls {sorted(open_calls)} have no tool message")
    choice = payload.get("tool_choice")
    names = [tool["function"]["name"] for tool in payload.get("tools") or ()]
    if choice is not None and not names:
        raise ServiceError(400, "tool_choice needs tools")
    if isinstance(choice, Mapping) and choice["function"]["name"] not in names:
        raise ServiceError(400, f"tool_choice: there is no tool {choice['function']['name']!r}")
