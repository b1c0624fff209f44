"""Makes every failure of a call an error of ``lunar_core`` and of langchain-core's ``ModelError`` tree at once.

``except lunar_core.RateLimitError`` and ``except langchain_core.exceptions.ModelRateLimitError`` catch the same object.
It has every attribute of the core's error (``attempts``, ``partial``, ``retry_after``, ``body``, ``status_code``,
``request_id``), and ``is_retryable`` says whether a retry may help. None derives from a builtin that LangGraph's
default policy skips. ``ConfigurationError`` stays as it is: no retry can help.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from langchain_core import exceptions as langchain
from langchain_core.exceptions import ModelError, OutputParserException

import lunar_core as lunar
from lunar_core.errors import LunarError
from lunar_core.wire.upstream import TOO_LONG

_BY_CLASS: tuple[tuple[type[LunarError], type[ModelError]], ...] = (
    (lunar.BadRequestError, langchain.ModelInvalidRequestError),
    (lunar.AuthenticationError, langchain.ModelAuthenticationError),
    (lunar.PermissionDeniedError, langchain.ModelPermissionDeniedError),
    (lunar.NotFoundError, langchain.ModelNotFoundError),
    (lunar.ConflictError, langchain.ModelAPIError),
    (lunar.UnprocessableEntityError, langchain.ModelInvalidRequestError),
    (lunar.RateLimitError, langchain.ModelRateLimitError),
    (lunar.InternalServerError, langchain.ModelAPIError),
    (lunar.APITimeoutError, langchain.ModelTimeoutError),
    (lunar.APIConnectionError, langchain.ModelConnectionError),
    (lunar.APIResponseValidationError, langchain.ModelAPIError),
)

# For a status without a class of its own, or one that came in an event of a stream.
_BY_STATUS: dict[int, type[ModelError]] = {
    401: langchain.ModelAuthenticationError,
    403: langchain.ModelPermissionDeniedError,
    404: langchain.ModelNotFoundError,
    408: langchain.ModelTimeoutError,
    409: langchain.ModelAPIError,
    429: langchain.ModelRateLimitError,
}


def model_error(error: LunarError) -> LunarError:
    """``error`` as LangChain's methods raise it: the same, and a ``ModelError`` too."""
    if isinstance(error, (lunar.ConfigurationError, ModelError)):
        return error
    kind = _kind(error)
    parsing = (OutputParserException,) if isinstance(error, lunar.OutputTruncatedError) else ()
    twin = _make(error.message, type(error), kind, *parsing)
    vars(twin).update(vars(error))
    # Under a gateway's 502 the core would retry, but the prompt stays too long.
    cast("Any", twin).is_retryable = (
        error.is_retryable and kind is not langchain.ContextOverflowError
    )
    return twin


def lunar_retry_on(error: BaseException) -> bool:
    """Whether to run a LangGraph node again that failed with ``error``: a ``retry_on`` for ``RetryPolicy``.

    A ``ModelError`` of any vendor, or an error of Lunar's, says so itself (``is_retryable``). Any other error is
    left to LangGraph's default policy, if LangGraph is installed.

    >>> graph.add_node("ask", ask, retry_policy=RetryPolicy(retry_on=lunar_retry_on))  # doctest: +SKIP
    """
    if isinstance(error, (ModelError, LunarError)):
        return error.is_retryable
    try:
        langgraph = import_module("langgraph.types")
    except ImportError:
        return isinstance(error, ConnectionError)
    judge = cast("Callable[[BaseException], bool]", langgraph.RetryPolicy().retry_on)
    return judge(error)


def _is_too_long(error: LunarError) -> bool:
    """Whether the prompt was too long for the model: as the core read it in a gateway's 502, or in a provider's words.

    A gateway may pass those words on under a status of its own; but statuses in ``_BY_STATUS`` mean something else.
    """
    if error.upstream is not None:
        return error.upstream.kind == "context_length"
    is_answer = isinstance(error, (lunar.APIStatusError, lunar.APIStreamError))
    other_status = (error.status_code or 0) not in _BY_STATUS
    return is_answer and other_status and TOO_LONG.search(error.message) is not None


def _kind(error: LunarError) -> type[ModelError]:
    status = error.status_code or 0
    if _is_too_long(error):
        return langchain.ContextOverflowError
    # A failure that came under status 200 is classified by the code that it states.
    if not isinstance(error, lunar.APIStreamError):
        for ours, theirs in _BY_CLASS:
            if isinstance(error, ours):
                return theirs
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return langchain.ModelInvalidRequestError
    if isinstance(error, lunar.APIStreamError):
        return langchain.ModelAPIError if status else langchain.ModelConnectionError
    return ModelError  # too large, over budget, redirected: no failure of a provider


_CLASSES: dict[tuple[type[Exception], ...], type[LunarError]] = {}


def _both(ours: type[LunarError], *theirs: type[Exception]) -> type[LunarError]:
    """The class that is both. It has the name of ours."""

    def reduce(self: LunarError) -> tuple[object, ...]:
        return _make, (self.message, ours, *theirs), vars(self)

    if (ours, *theirs) not in _CLASSES:
        body = {
            "__module__": ours.__module__,
            "__qualname__": ours.__qualname__,
            "__doc__": ours.__doc__,
            "__reduce__": reduce,
        }
        cls = cast("type[LunarError]", type(ours.__name__, (ours, *theirs), body))
        _CLASSES.setdefault((ours, *theirs), cls)
    return _CLASSES[(ours, *theirs)]


def _make(message: str, ours: type[LunarError], *theirs: type[Exception]) -> LunarError:
    error = _both(ours, *theirs)(message)
    error.args = (message,)  # langchain-core's parsing errors would add a link to it
    return error
