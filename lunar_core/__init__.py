"""Lunar: one client for chat, text and routing, whose answers say what they cost.

>>> from lunar_core import Lunar
>>> client = Lunar(api_key="pk_live_...")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lunar_core.errors import (
    AnswerFailedError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APIStreamError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ConflictError,
    InternalServerError,
    LedgerError,
    LunarCostWarning,
    LunarError,
    NotFoundError,
    OutputTruncatedError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    ToolChoiceIgnoredError,
    UnprocessableEntityError,
)
from lunar_core.types.attempt import Attempt
from lunar_core.types.upstream import UpstreamFailure
from lunar_core.version import __version__

if TYPE_CHECKING:
    from lunar_core.checks import Limits, Timeout
    from lunar_core.client.aio import AsyncLunar
    from lunar_core.client.aio_stream import AsyncStream
    from lunar_core.client.sync import Lunar
    from lunar_core.client.sync_stream import Stream
    from lunar_core.client.transport import AsyncTransport, Transport
    from lunar_core.cost.budget import Budget, BudgetState
    from lunar_core.cost.ledger import Entry, Ledger, Totals
    from lunar_core.cost.prices import Prices
    from lunar_core.cost.report import Report
    from lunar_core.cost.savings import Savings
    from lunar_core.observers import CallStart, Observer, Outcome, current_tags, observing, tags
    from lunar_core.routing import BREAK_TIES
    from lunar_core.types.completions import (
        CallInfo,
        ChatCompletion,
        ChatCompletionChunk,
        Completion,
        CompletionChunk,
        RoutedCompletion,
        RoutingDecision,
    )
    from lunar_core.types.usage import Usage
    from lunar_core.wire.catalogue import Model, Profiles, Provider
    from lunar_core.wire.model_facts import context_window

__all__ = [
    "BREAK_TIES",
    "APIConnectionError",
    "APIResponseValidationError",
    "APIStatusError",
    "APIStreamError",
    "APITimeoutError",
    "AnswerFailedError",
    "AsyncLunar",
    "AsyncStream",
    "AsyncTransport",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "BudgetExceededError",
    "BudgetState",
    "CallInfo",
    "CallStart",
    "ChatCompletion",
    "ChatCompletionChunk",
    "Completion",
    "CompletionChunk",
    "ConfigurationError",
    "ConflictError",
    "Entry",
    "InternalServerError",
    "Ledger",
    "LedgerError",
    "Limits",
    "Lunar",
    "LunarCostWarning",
    "LunarError",
    "Model",
    "NotFoundError",
    "Observer",
    "Outcome",
    "OutputTruncatedError",
    "PermissionDeniedError",
    "Prices",
    "Profiles",
    "Provider",
    "RateLimitError",
    "Report",
    "ResponseTooLargeError",
    "RoutedCompletion",
    "RoutingDecision",
    "Savings",
    "Stream",
    "Timeout",
    "ToolChoiceIgnoredError",
    "Totals",
    "Transport",
    "UnprocessableEntityError",
    "UpstreamFailure",
    "Usage",
    "__version__",
    "context_window",
    "current_tags",
    "observing",
    "tags",
]

# Everything but the errors comes with its module, at its first use: answers are models, which take pydantic longer to
# make than a program may take to start, and clients bring sockets and TLS.
_HOMES = {
    name: f"lunar_core.{home}"
    for home, names in {
        "client.aio": ("AsyncLunar",),
        "client.aio_stream": ("AsyncStream",),
        "client.sync": ("Lunar",),
        "client.sync_stream": ("Stream",),
        "client.transport": ("AsyncTransport", "Transport"),
        "cost.budget": ("Budget", "BudgetState"),
        "cost.ledger": ("Entry", "Ledger", "Totals"),
        "cost.prices": ("Prices",),
        "cost.report": ("Report",),
        "cost.savings": ("Savings",),
        "observers": ("CallStart", "Observer", "Outcome", "current_tags", "observing", "tags"),
        "routing": ("BREAK_TIES",),
        "checks": ("Limits", "Timeout"),
        "wire.catalogue": ("Model", "Profiles", "Provider"),
        "wire.model_facts": ("context_window",),
        "types.completions": (
            "CallInfo",
            "ChatCompletion",
            "ChatCompletionChunk",
            "Completion",
            "CompletionChunk",
            "RoutedCompletion",
            "RoutingDecision",
        ),
        "types.usage": ("Usage",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
