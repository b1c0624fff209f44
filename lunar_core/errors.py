"""Every error that a call can raise. All are importable from ``lunar_core`` and can be pickled.

* LunarError
  x ConfigurationError (also a ValueError): refused here, before any request
  x APIConnectionError: no answer, or not a whole one
    + APITimeoutError
  x APIStatusError: an HTTP status that is not 2xx
    + BadRequestError 400
    + AuthenticationError 401
    + PermissionDeniedError 403
    + NotFoundError 404
    + ConflictError 409
    + UnprocessableEntityError 422
    + RateLimitError 429
    + InternalServerError >= 500
  x APIResponseValidationError: status 200, but not the answer that was asked for
  x ResponseTooLargeError: past a bound of ``Limits``
  x APIStreamError: an error event, a malformed chunk, a cut or truncated stream
    + AnswerFailedError: a 200, plain or streamed, that tells of a failure in place of its answer or beside it;
      also an APIResponseValidationError
  x OutputTruncatedError: an object or a tool call whose JSON did not come whole
  x ToolChoiceIgnoredError: an answer without the tool call that was forced
  x BudgetExceededError: an observer refused the call
  x LedgerError: a stored ledger could not be opened, read or written

A LunarError that is none of these is a bug: here, or in a hook of the caller's own HTTP client.
Its text says where it was raised. It is neither retried nor put to another model.

``LunarCostWarning`` is no error: Python's warnings tell of it once for each client.

When every model of a call failed, the last model's own error is raised, with ``attempts`` telling
of all of them: ``except RateLimitError`` works the same with and without fallbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lunar_core.types.attempt import Attempt
from lunar_core.types.upstream import UpstreamFailure

if TYPE_CHECKING:
    from decimal import Decimal

    from lunar_core.types.completions import ChatCompletion, Completion


class LunarError(Exception):
    """What every error of this package is. Each attribute is there on each error, or None.

    ``status_code``: the HTTP status; ``request_id``: the service's own name for the request;
    ``body``: the decoded JSON of the error, or its text; ``attempts``: every request that was made;
    ``call_id``: the client's own name for the call, under which observers were told of it;
    ``partial``: what a stream had delivered before it failed, with its usage where that arrived;
    ``was_sent``: False where it is certain that no byte of the request left;
    ``upstream``: what the words of a gateway's error say that its provider's failure was, or None.

    >>> try:
    ...     answer = Lunar().completions.create(model="gpt-99", prompt="Hello")
    ... except LunarError as error:
    ...     error.status_code, error.is_retryable, len(error.attempts)
    (404, False, 1)
    """

    was_sent = True
    upstream: UpstreamFailure | None = None

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        request_id: str | None = None,
        body: object = None,
        partial: ChatCompletion | Completion | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.request_id = request_id
        self.body = body
        self.partial = partial
        self.attempts: tuple[Attempt, ...] = ()
        self.call_id: str | None = None
        self._is_retryable: bool | None = None

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may fare better in a moment. It may be set, by whoever knows better."""
        return may_fare_better(self) if self._is_retryable is None else self._is_retryable

    @is_retryable.setter
    def is_retryable(self, value: bool) -> None:
        self._is_retryable = value


class ConfigurationError(LunarError, ValueError):
    """A setting or parameter that cannot work; the text names it. Nothing was sent.

    >>> Lunar(timeout=-1)
    Traceback (most recent call last):
        ...
    lunar_core.errors.ConfigurationError: timeout: ...
    """

    was_sent = False


class APIConnectionError(LunarError):
    """The service could not be reached, or hung up before a whole answer."""


class APITimeoutError(APIConnectionError):
    """A timeout, or the ``total_timeout`` of the call, ran out."""


class APIStatusError(LunarError):
    """An HTTP error status. ``retry_after``: how many seconds the service asked to wait, or None."""

    retry_after: float | None = None


class BadRequestError(APIStatusError):
    """400: the service refused the request."""


class AuthenticationError(APIStatusError):
    """401: no key, or one that the service does not know."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model, provider or endpoint."""


class ConflictError(APIStatusError):
    """409."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request has the wrong form."""


class RateLimitError(APIStatusError):
    """429: too many requests for this key."""


class InternalServerError(APIStatusError):
    """500 and above: the service, or every provider behind it, failed."""


class APIResponseValidationError(LunarError):
    """The service answered 200 with something that is not the documented answer."""


class ResponseTooLargeError(LunarError):
    """An answer, counted after decompression, was larger than ``Limits`` allow."""


class APIStreamError(LunarError):
    """A stream broke: an error event, a malformed chunk, or an end before its time."""


class AnswerFailedError(APIStreamError, APIResponseValidationError):
    """The service answered 200 and told of a failure: an error beside the answer or in it, or in an event.

    ``status_code`` is the code that the failure bears, or None; ``partial`` what had come, with its usage.
    """


class OutputTruncatedError(LunarError):
    """What the model wrote as JSON, an object or a tool call's arguments, did not come whole.

    ``output``: what had come of it; ``finish_reason``: why the model stopped, as far as the service said;
    ``token_limit``: the ``max_tokens`` of the request, or None where the limit was the model's own.
    """

    def __init__(
        self,
        message: str = "",
        *,
        output: str = "",
        finish_reason: str | None = None,
        token_limit: int | None = None,
        **details: Any,  # those of LunarError, whatever their types
    ) -> None:
        super().__init__(message, **details)
        self.output = output
        self.finish_reason = finish_reason
        self.token_limit = token_limit


class ToolChoiceIgnoredError(LunarError):
    """The model answered without the tool call that ``tool_choice`` or a schema forced. ``partial`` is its answer."""


class LunarCostWarning(UserWarning):
    """The service stated no cost for a stream: what it took is unknown, and not zero.

    >>> import warnings
    >>> warnings.simplefilter("error", LunarCostWarning)  # to have it raised
    """


class BudgetExceededError(LunarError):
    """An observer's ``before`` refused the call: it would have passed a budget. Nothing was sent.

    A ``Budget`` says which: ``budget`` is its name, ``key`` the value of the tag that it goes by, ``unit`` "usd",
    "tokens" or "calls". ``limit``, ``spent``, ``held`` and ``asked`` (what this call may take; None where nobody can
    tell) are in that unit, ``resets_at`` is in seconds since the epoch. Each is None where another observer raised it.

    >>> with Lunar(observers=[Budget(calls=1)]) as client:
    ...     answer = client.completions.create(model="gpt-4o", prompt="Hello")
    ...     try:
    ...         answer = client.completions.create(model="gpt-4o", prompt="Hello")
    ...     except BudgetExceededError as error:
    ...         error.unit, error.limit, error.spent
    ('calls', 1, 1)
    """

    was_sent = False

    def __init__(
        self,
        message: str = "",
        *,
        budget: str | None = None,
        key: str | None = None,
        unit: str | None = None,
        limit: Decimal | int | None = None,
        spent: Decimal | int | None = None,
        held: Decimal | int | None = None,
        asked: Decimal | int | None = None,
        resets_at: float | None = None,
        **details: Any,  # those of LunarError, whatever their types
    ) -> None:
        super().__init__(message, **details)
        self.budget = budget
        self.key = key
        self.unit = unit
        self.limit = limit
        self.spent = spent
        self.held = held
        self.asked = asked
        self.resets_at = resets_at


def may_fare_better(error: LunarError) -> bool:
    """Whether the same request, made again, may succeed. Pure: goes by the class, the status and the words."""
    if isinstance(error, APIConnectionError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    if error.upstream is not None:
        return error.upstream.may_pass
    if isinstance(error, APIStatusError):
        return error.status_code in (408, 409, 429) or (error.status_code or 0) >= 500
    return isinstance(error, APIStreamError) and error.status_code not in PERMANENT


PERMANENT = frozenset({400, 401, 403, 404, 422})
"""Statuses of requests that the service refused: the same request is refused again."""


E = TypeVar("E", bound=LunarError)


def unsent(error: E) -> E:
    """``error``, which came before any byte of the request had left."""
    error.was_sent = False
    return error


class LedgerError(LunarError):
    """A stored ledger could not be opened, read or written: the text names it, without any password."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def class_for_status(status_code: int) -> type[APIStatusError]:
    """The error class of an HTTP status."""
    if status_code >= 500:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIStatusError)
