"""Decides which request comes next, and after how long: retries, fallbacks, decide-then-call. Pure.

Each plan is a generator: it yields a ``Send``, is sent the ``Reply`` to it, and returns the last reply. A client
carries the plan out and decides nothing; tests drive it by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from lunar_core.errors import (
    PERMANENT,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APIStreamError,
    LunarError,
    NotFoundError,
    describe_error,
)
from lunar_core.types.attempt import Attempt
from lunar_core.wire import api_requests
from lunar_core.wire.api_requests import APIRequest
from lunar_core.wire.headers import read_request_id

BASE_WAIT = 0.5
MAX_WAIT = 8.0
"""Seconds. The longest wait doubles from BASE_WAIT to MAX_WAIT; the wait is a random part of it."""
PATIENCE = 60.0
"""Seconds. If the service asks for a longer wait, the caller gets the error at once."""
PATIENCE_WITH_FALLBACKS = 5.0
"""Seconds. If the service asks for a longer wait and a fallback is left, the fallback is asked at once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Make this request, after this many seconds."""

    request: APIRequest
    after: float = 0.0


@dataclass(frozen=True)
class Reply(Generic[T]):
    """How a request ended: with an ``answer`` or an ``error``, never both."""

    request: APIRequest
    answer: T | None = None
    error: LunarError | None = None
    status_code: int | None = None
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Policy:
    """How often and how long one call may try, and the list of its attempts."""

    max_retries: int
    jitter: Callable[[], float]
    """A number from 0 to 1 for each wait: ``random.random``, or what a test wants."""
    time_left: Callable[[], float]
    """Seconds until the call's deadline; infinity without one."""
    attempts: list[Attempt] = field(default_factory=list)

    def record(self, reply: Reply[T]) -> None:
        error = describe_error(reply.error) if reply.error else None
        name = reply.error.request_id if reply.error else read_request_id(reply.headers)
        was_sent = reply.error is None or reply.error.was_sent
        cost = _stated_cost(reply.error)
        self.attempts.append(
            Attempt(
                reply.request.model, reply.status_code, error, reply.seconds, name, was_sent, cost
            )
        )

    def record_interrupted(
        self, request: APIRequest, interruption: BaseException, seconds: float
    ) -> None:
        """Record a request for which the caller stopped waiting: it was cancelled or interrupted."""
        self.attempts.append(Attempt(request.model, None, type(interruption).__name__, seconds))

    def record_late_failure(self, error: LunarError) -> None:
        """Record that the last attempt failed after its first content: its stream broke off."""
        self.attempts[-1] = replace(self.attempts[-1], error=describe_error(error))


def _stated_cost(error: LunarError | None) -> float | None:
    partial = None if error is None else error.partial
    return None if partial is None or partial.usage is None else partial.usage.total_cost_usd


Plan = Generator[Send, Reply[T], Reply[T]]


def may_fall_back(error: LunarError) -> bool:
    """Whether another model should be asked after this error. False for a mistake of the caller's, who must see it."""
    if error._is_retryable is False:  # set where no model can answer: this client was closed
        return False
    if error.upstream is not None:
        return error.upstream.may_fall_back
    if isinstance(error, APIStatusError):
        return error.status_code == 429 or (error.status_code or 0) >= 500
    if isinstance(error, APIStreamError):
        return error.status_code not in PERMANENT
    return isinstance(error, (APIConnectionError, APIResponseValidationError))


def retries_of(error: LunarError, policy: Policy) -> int:
    """How often to ask the same model again: at most once if the gateway has already retried its provider."""
    return policy.max_retries if error.upstream is None else min(1, policy.max_retries)


def backoff(retry: int, jitter: float) -> float:
    """Seconds before retry number ``retry`` (from 0): exponential, full jitter."""
    return jitter * min(MAX_WAIT, BASE_WAIT * 2.0**retry)


def ask(requests: Sequence[APIRequest], policy: Policy) -> Plan[T]:
    """Ask each model in turn, each ``max_retries + 1`` times, until one answers or no further request can help."""
    reply: Reply[T]
    for number, request in enumerate(requests):
        has_fallback = number + 1 < len(requests)
        wait = 0.0
        for retry in range(policy.max_retries + 1):
            reply = yield Send(request, wait)
            policy.record(reply)
            if reply.error is None:
                return reply
            if retry >= retries_of(reply.error, policy) or not reply.error.is_retryable:
                break
            retry_after = (
                reply.error.retry_after if isinstance(reply.error, APIStatusError) else None
            )
            if retry_after is not None and retry_after > (
                PATIENCE_WITH_FALLBACKS if has_fallback else PATIENCE
            ):
                break
            wait = backoff(retry, policy.jitter()) if retry_after is None else retry_after
            if wait >= policy.time_left():
                break
        if reply.error is None or not may_fall_back(reply.error) or policy.time_left() <= 0:
            break
    return reply


def decide_then_call(
    decision: APIRequest,
    make_request: Callable[[str], APIRequest],
    fallbacks: Sequence[str],
    policy: Policy,
    accept_decision: Callable[[T], str],
) -> Plan[T]:
    """Ask the router for a model, then ask that model: for requests that POST /v1/router cannot carry.

    ``make_request`` makes the request to a model. ``accept_decision`` takes the router's answer and returns the model
    that it names. If the router fails, the fallbacks are asked instead.
    """
    reply: Reply[T] = yield from ask([decision], policy)
    if reply.answer is not None:
        models = [accept_decision(reply.answer), *fallbacks]
    elif (
        fallbacks
        and reply.error is not None
        and may_fall_back(reply.error)
        and policy.time_left() > 0
    ):
        models = list(fallbacks)
    else:
        return reply
    return (yield from ask([make_request(model) for model in dict.fromkeys(models)], policy))


def list_models(policy: Policy) -> Plan[T]:
    """GET /v1/models. If the service does not have it: its price list, which names the same models."""
    reply: Reply[T] = yield from ask([api_requests.models()], policy)
    if isinstance(reply.error, NotFoundError):
        return (yield from ask([api_requests.priced_models()], policy))
    return reply
