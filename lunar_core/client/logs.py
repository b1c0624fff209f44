"""The logger ``lunar_core``. Its lines show no key, no prompt and no answer.

They do not show the service's messages or a route's reasoning either, which may quote a prompt: they show the status,
the error's class and the score. Models and request ids are the service's words too: a key that it repeats there is
redacted.

DEBUG has one line for each attempt. INFO has one for each retry and fallback, with its wait, one for each route, one
for each wait over a second for a connection, and one for each call that has ended, with its model and its billed USD.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import SecretStr

from lunar_core.client.attempts import Reply, Send
from lunar_core.credentials import without_secret
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Outcome
from lunar_core.types.attempt import Attempt
from lunar_core.types.completions import RoutingDecision
from lunar_core.wire.api_requests import APIRequest
from lunar_core.wire.headers import read_request_id

logger = logging.getLogger("lunar_core")

_LONGEST_NAME = 120
_LONG_WAIT = 1.0  # seconds
_LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}


class LoggedCall(Protocol):
    """What a line needs of a Call. ``secret``: the key of its last request."""

    call_id: str
    secret: SecretStr | None


def switch_on() -> None:
    """Read LUNAR_LOG: ``info`` or ``debug`` shows these lines on standard error.

    If the program has handlers of its own, only the level is set. Raises ConfigurationError for another word.
    """
    word = os.environ.get("LUNAR_LOG", "").strip().lower()
    if not word:
        return
    if word not in _LEVELS:
        raise ConfigurationError("LUNAR_LOG: expected info or debug")
    logger.setLevel(_LEVELS[word])
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        handler.addFilter(lambda _record: not logging.getLogger().handlers)  # which came later
        logger.addHandler(handler)


def log_attempt(call: LoggedCall, reply: Reply[Any]) -> None:
    """Log an HTTP request that has ended."""
    error = reply.error
    request_id = read_request_id(reply.headers) if error is None else error.request_id
    _log_request(call, reply.request, _result(reply), reply.seconds, request_id)


def log_interrupted(
    call: LoggedCall, request: APIRequest, interruption: BaseException, seconds: float
) -> None:
    """Log an HTTP request for which the caller stopped waiting: it was cancelled or interrupted."""
    _log_request(call, request, _kind(interruption), seconds, None)


def _log_request(
    call: LoggedCall, request: APIRequest, result: str, seconds: float, request_id: str | None
) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "%s: %s %s model=%s %s in %.0f ms, request id %s",
            call.call_id,
            request.method,
            request.path.partition("?")[0],
            _printable(call, request.model),
            result,
            seconds * 1000,
            _printable(call, _one_word(request_id)),
        )


def log_next(call: LoggedCall, reply: Reply[Any], send: Send) -> None:
    """Log that another request follows ``reply``: a retry of the same model, or a fallback to another."""
    if not logger.isEnabledFor(logging.INFO) or reply.error is None:
        return
    former, model = reply.request.model, send.request.model
    change = f"retry of {_printable(call, model)}"
    if former != model:
        change = f"fallback from {_printable(call, former)} to {_printable(call, model)}"
    logger.info("%s: %s after %s, waiting %.2f s", call.call_id, change, _result(reply), send.after)


def log_wait(seconds: float) -> None:
    """Log that a request has waited ``seconds`` for a connection, if that was long."""
    if seconds > _LONG_WAIT:
        logger.info("waited %.2f s for a connection: max_connections were in use", seconds)


def log_route(call: LoggedCall, route: RoutingDecision) -> None:
    """Log the router's choice."""
    logger.info(
        "%s: routed to %s, expected error %s, score %s, cluster %s",
        call.call_id,
        _printable(call, route.selected_model),
        route.expected_error,
        route.cost_adjusted_score,
        route.cluster_id,
    )


def logs_outcomes() -> bool:
    """Whether ``log_outcome`` logs anything."""
    return logger.isEnabledFor(logging.INFO)


def log_outcome(call: LoggedCall, outcome: Outcome) -> None:
    """Log a call that has ended."""
    if not logs_outcomes():
        return
    cost = None if outcome.usage is None else outcome.usage.cost
    logger.info(
        "%s: %s %s model=%s cost=%s after %s%s",
        call.call_id,
        outcome.endpoint,
        outcome.status,
        _printable(call, outcome.model),
        "unknown" if cost is None else f"{cost:f} USD",
        count_attempts(outcome.call.attempts),
        "" if outcome.error is None else f" ({_kind(outcome.error)})",
    )


def count_attempts(attempts: Sequence[Attempt]) -> str:
    """In words."""
    return f"{len(attempts)} attempt{'s' if len(attempts) != 1 else ''}"


def log_observer_failure(call_id: str, failure: Exception) -> None:
    """Log that an observer's ``after`` has raised ``failure``."""
    logger.error("an observer failed after call %s", call_id, exc_info=failure)


def _result(reply: Reply[Any]) -> str:
    if reply.error is None:
        return f"status {reply.status_code}"
    return _kind(reply.error)


def _kind(error: BaseException) -> str:
    """The class of an error, and its status if it has one. Its text may quote the prompt."""
    name, status = type(error).__name__, getattr(error, "status_code", None)
    return name if status is None else f"{name} {status}"


def _one_word(request_id: str | None) -> str:
    """``request_id``, or several that came, if each is one word: a sentence may quote the prompt."""
    words = (request_id or "unknown").split(", ")
    return ", ".join(words) if all(word.split() == [word] for word in words) else "unknown"


def _printable(call: LoggedCall, name: str) -> str:
    """``name`` shortened and without the key. Line breaks and terminal sequences must not get into a log."""
    if call.secret is not None:
        name = without_secret(name, call.secret)
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])
