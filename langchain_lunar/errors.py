"""Every failure of a call is at once one of ``lunar_core``'s errors and one of langchain-core's ``ModelError`` tree.

``except lunar_core.RateLimitError`` and ``except langchain_core.exceptions.ModelRateLimitError`` catch the same
object. It has all that the core's error has (``attempts``, ``partial``, ``retry_after``, ``body``, ``status_code``,
``request_id``), and ``is_retryable`` says whether asking again may help. None derives from a builtin that
LangGraph's default policy skips, but for ``ConfigurationError``, which no retry can mend and which stays itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from langchain_core import exceptions as langchain
from langchain_core.exceptions import ModelError, OutputParserException

import lunar_core as lunar
from lunar_core.errors import LunarError

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

# A status that has no class of its own, or came as an event of a stream.
_BY_STATUS: dict[int, type[ModelError]] = {
    401: langchain.ModelAuthenticationError,
    403: langchain.ModelPermissionDeniedError,
    404: langchain.ModelNotFoundError,
    408: langchain.ModelTimeoutError,
    409: langchain.ModelAPIError,
    429: langchain.ModelRateLimitError,
}

# As OpenAI, Azure, Anthropic, Mistral, Google, Groq and vLLM put it. A gateway hands their words on under a status of
# its own; but those above are about something else.
_TOO_LONG = re.compile(
    r"context[ _]length[ _]exceeded|maximum context length|context window|prompt is too long"
    r"|input is too long|input token count|reduce the length of|tokens exceed the configured limit"
    r"|exceeds? the (?:model'?s? )?(?:maximum )?(?:context|number of tokens|token limit)"
    r"|too large for model with \d+ maximum context|longer than the model'?s context",
    re.IGNORECASE,
)


def model_error(error: LunarError) -> LunarError:
    """``error`` as it is raised from LangChain's methods: the same, and a ``ModelError`` too."""
    if isinstance(error, (lunar.ConfigurationError, ModelError)):
        return error
    kind = _kind(error)
    parsing = (OutputParserException,) if isinstance(error, lunar.OutputTruncatedError) else ()
    twin = _make(error.message, type(error), kind, *parsing)
    vars(twin).update(vars(error))
    # A gateway may call it 502, and the core asks again then; but the prompt will be as long the next time.
    cast("Any", twin).is_retryable = (
        error.is_retryable and kind is not langchain.ContextOverflowError
    )
    return twin


def lunar_retry_on(error: BaseException) -> bool:
    """Whether a LangGraph node that failed with ``error`` is worth another run.

    A ``ModelError`` says so itself, and for an error of ``lunar_core`` alone the core does; anything else is left to
    LangGraph's own judgement, where that is installed.

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
    """Whether the prompt did not fit: as the core has read it of a gateway's 502, or in a provider's own words."""
    if error.upstream is not None:
        return error.upstream.kind == "context_length"
    is_answer = isinstance(error, (lunar.APIStatusError, lunar.APIStreamError))
    other_status = (error.status_code or 0) not in _BY_STATUS
    return is_answer and other_status and _TOO_LONG.search(error.message) is not None


def _kind(error: LunarError) -> type[ModelError]:
    status = error.status_code or 0
    if _is_too_long(error):
        return langchain.ContextOverflowError
    if not isinstance(
        error, lunar.APIStreamError
    ):  # what came with a 200 goes by the code that it bears
        for ours, theirs in _BY_CLASS:
            if isinstance(error, ours):
                return theirs
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return langchain.ModelInvalidRequestError
    if isinstance(error, lunar.APIStreamError):
        return langchain.ModelAPIError if status else langchain.ModelConnectionError
    return ModelError  # too large, over budget, redirected: nothing that a provider did


_CLASSES: dict[tuple[type[Exception], ...], type[LunarError]] = {}


def _both(ours: type[LunarError], *theirs: type[Exception]) -> type[LunarError]:
    """The class that is ours and langchain-core's. It bears the name of ours, under which it can be caught."""

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
