"""What the caller asked for, as one value that both clients carry out. Pure but for the clock.

A Job goes from keywords to a plan of requests, and from the last reply to the answer's ``call``,
the error's ``attempts`` and the Outcome that observers are told of.
"""

from __future__ import annotations

import logging
import math
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import SecretStr

from lunar_core import routing
from lunar_core.client import attempts
from lunar_core.client.attempts import Plan, Policy
from lunar_core.errors import ConfigurationError, LunarError
from lunar_core.observers import CallStart, Endpoint, Observer, Outcome, Status, current_tags
from lunar_core.settings import (
    Limits,
    Settings,
    Timeout,
    checked_count,
    checked_fallbacks,
    checked_headers,
    checked_seconds,
    checked_timeout,
)
from lunar_core.wire import answers, calls, catalogue
from lunar_core.wire.calls import Call
from lunar_core.wire.completions import (
    Answer,
    CallInfo,
    ChatCompletion,
    Completion,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.wire.usage import Usage

logger = logging.getLogger("lunar_core")

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """Time and chance, to be replaced in tests: ``clock`` in seconds, ``now`` since the epoch, ``jitter`` 0 to 1."""

    clock: Callable[[], float]
    now: Callable[[], float]
    jitter: Callable[[], float]


def runtime() -> Runtime:
    return Runtime(time.monotonic, time.time, random.random)


@dataclass
class Job:
    """One call of the caller's, from start to end."""

    endpoint: Endpoint | None
    """None for the catalogue, which costs nothing and of which no observer is told."""
    model: str
    params: Mapping[str, object]
    timeout: Timeout
    headers: Mapping[str, str]
    policy: Policy
    runtime: Runtime
    deadline: float | None
    limits: Limits
    observers: Sequence[Observer] = ()
    stream: bool = False
    call_id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex}")
    tags: Mapping[str, str] = field(default_factory=current_tags)
    decision: RoutingDecision | None = None
    secret: SecretStr | None = None
    """The key of the last request."""
    started: float = 0.0
    first_content: float | None = None
    _told: bool = False

    def __post_init__(self) -> None:
        self.started = self.runtime.clock()

    def begin(self) -> None:
        """Let every observer refuse. Raises what the first one raises."""
        if self.endpoint is None:
            return
        start = CallStart(
            self.call_id, self.endpoint, self.model, self.params, self.stream, self.tags
        )
        for observer in self.observers:
            observer.before(start)

    def time_left(self) -> float:
        return math.inf if self.deadline is None else self.deadline - self.runtime.clock()

    def decided(self, answer: object) -> str:
        """The first half of decide-then-call is done: remember the route, and report what it cost."""
        if not isinstance(answer, RoutedCompletion) or answer.routing is None:
            raise TypeError("read_decision lets nothing else through")
        route = self.decision = answer.routing
        part = replace(
            self,
            endpoint="router.decide",
            model=calls.ROUTER,
            stream=False,
            call_id=f"{self.call_id}.route",
        )
        info = CallInfo(part.call_id, calls.ROUTER, tuple(self.policy.attempts))
        part.tell("ok", info, route.selected_model, usage=answer.usage, route=route)
        return route.selected_model

    def info(self, headers: Mapping[str, str] | None = None) -> CallInfo:
        now = self.runtime.clock()
        first = self.first_content
        return CallInfo(
            call_id=self.call_id,
            requested_model=self.model,
            attempts=tuple(self.policy.attempts),
            request_id=answers.request_id(headers) if headers is not None else None,
            headers=dict(headers) if headers is not None else {},
            latency_ms=(now - self.started) * 1000,
            ttft_ms=None if first is None else (first - self.started) * 1000,
        )

    def succeed(self, answer: object, headers: Mapping[str, str]) -> object:
        """A plain answer has come: put ``call`` and the route on it, and tell the observers."""
        if not isinstance(answer, Answer):
            return answer  # a list of the catalogue
        if isinstance(answer, ChatCompletion) and answer.routing is None:
            route = self.decision or route_in(headers)
            if route is not None:
                answer = answer.model_copy(update={"routing": route})
        answer._call = self.info(headers)
        if isinstance(answer, ChatCompletion) and answer.routing is not None:
            answer.routing._call = answer.call
        if isinstance(answer, (ChatCompletion, Completion)):
            route = answer.routing if isinstance(answer, ChatCompletion) else None
            extra = answer.model_extra
            self.tell("ok", answer.call, answer.model, usage=answer.usage, route=route, extra=extra)
        return answer

    def abort(self) -> None:
        """The caller stopped waiting: cancelled, or interrupted."""
        self.tell("aborted", self.info(), None)

    def fail(self, error: LunarError) -> LunarError:
        """No model answered: the error to raise, with every attempt on it."""
        self.tell("failed", self.info(), None, error=self.named(error))
        return error

    def named(self, error: LunarError) -> LunarError:
        """``error`` with what it takes to find the call that it ended."""
        error.call_id = self.call_id
        error.attempts = tuple(self.policy.attempts)
        return error

    def tell(
        self,
        status: Status,
        info: CallInfo,
        model: str | None,
        *,
        usage: Usage | None = None,
        route: RoutingDecision | None = None,
        extra: Mapping[str, object] | None = None,
        error: LunarError | None = None,
    ) -> None:
        """Tell each observer, once per job, how it ended."""
        if self.endpoint is None or self._told:
            return
        self._told = True
        provider = provider_of(model, route, extra or {})
        outcome = Outcome(
            info,
            self.endpoint,
            status,
            model or self.model,
            provider,
            usage,
            route,
            error,
            self.stream,
            self.tags,
        )
        for observer in self.observers:
            try:
                observer.after(outcome)
            except (
                Exception
            ):  # whatever an observer does, the caller gets the answer that was paid for
                logger.exception("an observer failed after call %s", self.call_id)


def provider_of(
    model: str | None, route: RoutingDecision | None, extra: Mapping[str, object]
) -> str | None:
    """Who served the answer: the service's own word, else the route's, else the prefix of the model's name."""
    stated = extra.get("provider")
    if isinstance(stated, str) and stated:
        return stated
    if route is not None and route.selected_provider and model in (None, route.selected_model):
        return route.selected_provider
    prefix, slash, _ = (model or "").partition("/")
    return prefix if slash else None


def route_in(headers: Mapping[str, str]) -> RoutingDecision | None:
    """The route as the observed service states it beside a stream: in two headers."""
    model, cluster = headers.get("x-routing-model"), headers.get("x-routing-cluster") or ""
    if not model:
        return None
    known = re.fullmatch(r"-?[0-9]{1,9}", cluster)
    return RoutingDecision(selected_model=model, cluster_id=int(cluster) if known else None)


def reader(call: Call) -> Callable[[bytes], object]:
    """What takes the body of the call's answer. It raises ValueError for anything else."""
    if call.path == "/v1/router" and call.params.get("execute") is False:
        return answers.read_decision
    return _READERS[call.path.partition("?")[0]]


_READERS: dict[str, Callable[[bytes], object]] = {
    "/v1/chat/completions": answers.read_chat,
    "/v1/completions": answers.read_text,
    "/v1/router": answers.read_routed,
    "/v1/router/profiles": catalogue.read_profiles,
    "/v1/models": catalogue.read_models,
    "/v1/pricing/models": catalogue.read_models,
    "/v1/providers": catalogue.read_providers,
}


class Desk:
    """Turns keywords into Jobs and their plans, for one client."""

    def __init__(self, settings: Settings, observers: Sequence[Observer], runtime: Runtime) -> None:
        self.settings = settings
        self.observers = tuple(observers)
        self.runtime = runtime

    def chat(self, keywords: Mapping[str, object]) -> tuple[Job, Plan[object]]:
        options, params = _split(keywords)
        if not routing.is_routed(params):
            params = routing.without_router_fields(params)
            call = calls.chat(_asking_usage(params, options))
            job, fallbacks = self._job("chat.completions", call, options)
            return job, attempts.ask(_with_fallbacks(call, fallbacks), job.policy)
        if routing.takes_one_request(params):
            return self._router(routing.execute_params(params), options)
        return self._decide_then_chat(params, options)

    def _decide_then_chat(
        self, params: dict[str, object], options: Mapping[str, object]
    ) -> tuple[Job, Plan[object]]:
        template = calls.chat(_asking_usage(routing.without_router_fields(params), options))
        decision = calls.router(routing.decide_params(params))
        job, fallbacks = self._job("chat.completions", template, options)
        return job, attempts.decide_then_call(
            decision, template.for_model, fallbacks, job.policy, job.decided
        )

    def text(self, keywords: Mapping[str, object]) -> tuple[Job, Plan[object]]:
        options, params = _split(keywords)
        call = calls.text(_asking_usage(params, options))
        job, fallbacks = self._job("completions", call, options)
        return job, attempts.ask(_with_fallbacks(call, fallbacks), job.policy)

    def router(self, keywords: Mapping[str, object]) -> tuple[Job, Plan[object]]:
        options, params = _split(keywords)
        return self._router(params, options)

    def _router(
        self, params: dict[str, object], options: Mapping[str, object]
    ) -> tuple[Job, Plan[object]]:
        call = calls.router(params)
        decides = params.get("execute") is False
        job, fallbacks = self._job("router.decide" if decides else "router", call, options)
        chat = {
            key: value
            for key, value in _asking_usage(params, options).items()
            if key not in ("models", "cost_weight", "execute")
        }
        others = (
            []
            if decides
            else [calls.chat({"model": model, **chat}) for model in dict.fromkeys(fallbacks)]
        )
        return job, attempts.ask([call, *others], job.policy)

    def profiles(self) -> tuple[Job, Plan[object]]:
        return self._catalogue(calls.profiles())

    def providers(self, model: str | None) -> tuple[Job, Plan[object]]:
        return self._catalogue(calls.providers(model))

    def models(self) -> tuple[Job, Plan[object]]:
        job, _ = self._job(None, calls.models(), {})
        return job, attempts.list_models(job.policy)

    def _catalogue(self, call: Call) -> tuple[Job, Plan[object]]:
        job, _ = self._job(None, call, {})
        return job, attempts.ask([call], job.policy)

    def _job(
        self, endpoint: Endpoint | None, call: Call, options: Mapping[str, object]
    ) -> tuple[Job, Sequence[str]]:
        settings, clock = self.settings, self.runtime.clock
        retries = options.get("max_retries")
        total = (
            checked_seconds(options.get("total_timeout"), "total_timeout") or settings.total_timeout
        )
        timeout, headers = options.get("timeout"), options.get("extra_headers")
        given = options.get("fallbacks")
        deadline = None if total is None else clock() + total
        job = Job(
            endpoint=endpoint,
            model=call.model,
            params=call.params,
            timeout=settings.timeout if timeout is None else checked_timeout(timeout),
            headers=checked_headers(headers, "extra_headers"),
            policy=Policy(
                settings.max_retries if retries is None else checked_count(retries, "max_retries"),
                self.runtime.jitter,
                lambda: math.inf if deadline is None else deadline - clock(),
            ),
            runtime=self.runtime,
            deadline=deadline,
            limits=settings.limits,
            observers=self.observers,
            stream=call.stream,
        )
        return job, settings.fallbacks if given is None else checked_fallbacks(given)


def _asking_usage(
    params: Mapping[str, object], options: Mapping[str, object]
) -> Mapping[str, object]:
    """What chat and text completions are sent. POST /v1/router states usage unasked, and knows no such field."""
    wanted = options.get("stream_usage")
    if wanted is not None and not isinstance(wanted, bool):
        raise ConfigurationError("stream_usage: expected True or False")
    if wanted and params.get("stream") and "stream_options" not in params:
        return {**params, "stream_options": {"include_usage": True}}
    return params


def _with_fallbacks(call: Call, fallbacks: Sequence[str]) -> list[Call]:
    others = dict.fromkeys(model for model in fallbacks if model != call.model)
    return [call, *map(call.for_model, others)]


def _split(keywords: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The client's options, and what is sent."""
    options = {key: value for key, value in keywords.items() if key in calls.OPTIONS}
    return options, calls.clean(
        {key: value for key, value in keywords.items() if key not in calls.OPTIONS}
    )
