"""Lunar: one client for chat, text and routing, whose answers say what they cost.

>>> from lunar_core import Lunar
>>> client = Lunar(api_key="pk_live_...")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lunar_core.cost.ledger import Entry, Ledger, Totals
from lunar_core.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APIStreamError,
    APITimeoutError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ConflictError,
    InternalServerError,
    LunarError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    UnprocessableEntityError,
)
from lunar_core.observers import CallStart, Observer, Outcome, current_tags, tags
from lunar_core.settings import Limits, Timeout
from lunar_core.version import __version__
from lunar_core.wire.catalogue import Model, Profiles, Provider, context_window
from lunar_core.wire.completions import (
    CallInfo,
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.wire.usage import Usage

if TYPE_CHECKING:
    from lunar_core.client.aio import AsyncLunar
    from lunar_core.client.aio_stream import AsyncStream
    from lunar_core.client.sync import Lunar
    from lunar_core.client.sync_stream import Stream

__all__ = [
    "APIConnectionError",
    "APIResponseValidationError",
    "APIStatusError",
    "APIStreamError",
    "APITimeoutError",
    "AsyncLunar",
    "AsyncStream",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
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
    "Limits",
    "Lunar",
    "LunarError",
    "Model",
    "NotFoundError",
    "Observer",
    "Outcome",
    "PermissionDeniedError",
    "Profiles",
    "Provider",
    "RateLimitError",
    "ResponseTooLargeError",
    "RoutedCompletion",
    "RoutingDecision",
    "Stream",
    "Timeout",
    "Totals",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
    "context_window",
    "current_tags",
    "tags",
]

# Sockets and TLS take longer to import than all the rest here together: they come with the first client.
_CLIENTS = {
    "AsyncLunar": "lunar_core.client.aio",
    "AsyncStream": "lunar_core.client.aio_stream",
    "Lunar": "lunar_core.client.sync",
    "Stream": "lunar_core.client.sync_stream",
}


def __getattr__(name: str) -> object:
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_CLIENTS[name]), name)
    globals()[name] = found
    return found
