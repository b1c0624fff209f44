"""One call of the caller's, as a value that both clients carry out. Pure but for the clock.

A Call is made from the caller's keywords. When it ends, it makes the answer's ``call``, the error's ``attempts``, and
the Outcome for the observers.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import SecretStr

from lunar_core.checks import Limits, Timeout
from lunar_core.client.attempts import Policy
from lunar_core.client.logs import log_observer_failure, log_outcome, log_route, logs_outcomes
from lunar_core.client.notices import CostNotice
from lunar_core.client.own_thread import run_in_own_thread
from lunar_core.errors import LunarError
from lunar_core.observers import (
    CallStart,
    Endpoint,
    Observer,
    Outcome,
    Status,
    current_tags,
    find_abefore,
)
from lunar_core.types.completions import (
    Answer,
    CallInfo,
    ChatCompletion,
    Completion,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.types.usage import Usage
from lunar_core.wire import api_requests
from lunar_core.wire.headers import read_request_id
from lunar_core.wire.routes import find_provider, read_route

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """The clock and the randomness of a client. Tests replace them.

    ``clock``: monotonic seconds. ``now``: seconds since the epoch. ``jitter``: a random number from 0 to 1.
    """

    clock: Callable[[], float]
    now: Callable[[], float]
    jitter: Callable[[], float]


def runtime() -> Runtime:
    return Runtime(time.monotonic, time.time, random.random)


@dataclass
class Call:
    """One call of the caller's, from its start to its end."""

    endpoint: Endpoint | None
    """None for the catalogue: it costs nothing, and observers are not notified."""
    model: str
    params: Mapping[str, object]
    timeout: Timeout
    headers: Mapping[str, str]
    policy: Policy
    runtime: Runtime
    deadline: float | None
    limits: Limits
    cost_notice: CostNotice = field(default_factory=CostNotice)
    observers: Sequence[Observer] = ()
    stream: bool = False
    models: tuple[str, ...] = ()
    """Every model that may answer, as far as the client knows."""
    candidates: tuple[str, ...] = ()
    cost_weight: float | None = None
    call_id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex}")
    tags: Mapping[str, str] = field(default_factory=current_tags)
    decision: RoutingDecision | None = None
    secret: SecretStr | None = None
    """The key of the last request."""
    started: float = 0.0
    first_content: float | None = None
    is_finalized: bool = False
    """Whether a finalizer ends the call, because its stream or its coroutine was dropped."""
    _is_reported: bool = False

    def __post_init__(self) -> None:
        self.started = self.runtime.clock()

    def begin(self) -> None:
        """Let every observer refuse the call. Raises what the first refusing observer raises."""
        if self.endpoint is None:
            return
        start = self._start(self.endpoint)
        for number, observer in enumerate(self.observers):
            try:
                observer.before(start)
            except BaseException as refusal:
                self._refuse(refusal, self.observers[:number])
                raise

    async def abegin(self) -> None:
        """The same for the async client: the ``abefore`` of an observer that has one is awaited."""
        if self.endpoint is None:
            return
        start = self._start(self.endpoint)
        for number, observer in enumerate(self.observers):
            try:
                abefore = find_abefore(observer)
                if abefore is None:
                    observer.before(start)
                else:
                    await abefore(start)
            except BaseException as refusal:  # a cancellation, too
                self._refuse(refusal, self.observers[:number])
                raise

    def _start(self, endpoint: Endpoint) -> CallStart:
        return CallStart(
            self.call_id, endpoint, self.model, self.params, self.stream, self.tags, self.models
        )

    def _refuse(self, refusal: BaseException, observers: Sequence[Observer]) -> None:
        """End a call that an observer refused. ``observers``: those before it, which release what they reserved."""
        if isinstance(refusal, LunarError):
            self.identify(refusal)
        self.observers = observers
        self.report("refused", self.info(), None, error=refusal)

    @property
    def is_watched(self) -> bool:
        """Whether an observer or the log takes the outcome. If not, a long stream need not be assembled."""
        return bool(self.observers) or logs_outcomes()

    def time_left(self) -> float:
        return math.inf if self.deadline is None else self.deadline - self.runtime.clock()

    def accept_decision(self, answer: object) -> str:
        """Take the router's answer in decide-then-call: keep the route, report its cost, return the chosen model."""
        if not isinstance(answer, RoutedCompletion) or answer.routing is None:
            raise TypeError("read_decision lets nothing else through")
        route = self.decision = answer.routing
        part = replace(
            self,
            endpoint="router.decide",
            model=api_requests.ROUTER,
            stream=False,
            call_id=f"{self.call_id}.route",
        )
        log_route(self, route)
        info = CallInfo(part.call_id, api_requests.ROUTER, tuple(self.policy.attempts))
        part.report("ok", info, route.selected_model, usage=answer.usage, route=route)
        return route.selected_model

    def info(self, headers: Mapping[str, str] | None = None) -> CallInfo:
        """The call so far: its attempts, its times in ms, the headers of its last response."""
        now = self.runtime.clock()
        first = self.first_content
        return CallInfo(
            call_id=self.call_id,
            requested_model=self.model,
            attempts=tuple(self.policy.attempts),
            request_id=read_request_id(headers) if headers is not None else None,
            headers=dict(headers) if headers is not None else {},
            latency_ms=(now - self.started) * 1000,
            ttft_ms=None if first is None else (first - self.started) * 1000,
        )

    def succeed(self, answer: object, headers: Mapping[str, str]) -> object:
        """Finish the call with its answer: put ``call`` and the route on it, and notify the observers."""
        if not isinstance(answer, Answer):
            return answer  # a list of the catalogue
        if isinstance(answer, ChatCompletion) and answer.routing is None:
            route = self.decision or read_route(headers)
            if route is not None:
                answer = answer.model_copy(update={"routing": route})
        answer._call = self.info(headers)
        if isinstance(answer, ChatCompletion) and answer.routing is not None:
            answer.routing._call = answer.call
        if isinstance(answer, (ChatCompletion, Completion)):
            route = answer.routing if isinstance(answer, ChatCompletion) else None
            extra = answer.model_extra
            self.report(
                "ok",
                answer.call,
                answer.model,
                usage=answer.usage,
                route=route,
                extra=extra,
                read_answer=lambda: answer,
            )
        return answer

    def abort(self) -> None:
        """Report that the caller stopped waiting: the call was cancelled or interrupted."""
        self.report("aborted", self.info(), None)

    def fail(self, error: LunarError) -> LunarError:
        """Finish a call that no model answered. Returns the error to raise, with every attempt on it."""
        self.identify(error)
        partial = error.partial
        usage = None if partial is None else partial.usage
        self.report(
            "failed", self.info(), None, usage=usage, error=error, read_answer=lambda: partial
        )
        return error

    def identify(self, error: LunarError) -> LunarError:
        """Put the call's id and attempts on ``error``, and return it."""
        error.call_id = self.call_id
        error.attempts = tuple(self.policy.attempts)
        return error

    def report(
        self,
        status: Status,
        info: CallInfo,
        model: str | None,
        *,
        usage: Usage | None = None,
        route: RoutingDecision | None = None,
        extra: Mapping[str, object] | None = None,
        error: BaseException | None = None,
        read_answer: Callable[[], ChatCompletion | Completion | None] | None = None,
    ) -> None:
        """Notify each observer, once per call, how the call ended."""
        if self.endpoint is None:
            return
        provider = find_provider(model, route, extra or {})
        outcome = Outcome(
            call=info,
            endpoint=self.endpoint,
            status=status,
            model=model or self.model,
            provider=provider,
            usage=usage,
            routing=route,
            error=error,
            streamed=self.stream,
            tags=self.tags,
            from_finalizer=self.is_finalized,
            params=self.params,
            candidates=self.candidates,
            cost_weight=self.cost_weight,
            read_answer=read_answer,
        )
        if self._is_reported:
            return
        self._is_reported = True
        if self.is_finalized:
            run_in_own_thread(lambda: self._notify_observers(outcome))
        else:
            self._notify_observers(outcome)

    def _notify_observers(self, outcome: Outcome) -> None:
        interruption = None
        for observer in self.observers:
            try:
                observer.after(outcome)
            except Exception as failure:  # noqa: BLE001  # an observer's bug is logged: the caller gets the answer, which was paid for
                log_observer_failure(self.call_id, failure)
            except BaseException as exc:  # noqa: BLE001  # raised below: the others are notified all the same
                interruption = exc
        if outcome.routing is not None and self.decision is None:  # otherwise logged on arrival
            log_route(self, outcome.routing)
        log_outcome(self, outcome)
        if interruption is not None:
            raise interruption
