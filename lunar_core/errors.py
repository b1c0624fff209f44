"""Every error that a call can raise. All are importable from ``lunar_core`` and can be pickled.

* LunarError
  x ConfigurationError (also a ValueError): the client refused it before any request
  x APIConnectionError: no answer, or an incomplete one
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
  x APIResponseValidationError: status 200, but no valid answer
  x ResponseTooLargeError: larger than ``Limits`` allow
  x APIStreamError: an error event, a malformed chunk, a cut or truncated stream
    + AnswerFailedError: a 200, plain or streamed, that states a failure in place of its answer or beside it;
      also an APIResponseValidationError
  x OutputTruncatedError: an object or a tool call whose JSON is incomplete
  x ToolChoiceIgnoredError: an answer without the tool call that was forced
  x BudgetExceededError: an observer refused the call
  x LedgerError: a stored ledger could not be opened, read or written

A LunarError of no subclass reports a bug: in this package, or in a hook of the caller's own HTTP client.
Its text says where it was raised. It is neither retried nor sent to another model.

``LunarCostWarning`` is a warning, not an error. Each client gives it once.

If every model of a call fails, the last model's error is raised, and its ``attempts`` list the requests
to all of them. So ``except RateLimitError`` works the same with and without fallbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lunar_core.types.attempt import Attempt
from lunar_core.types.upstream import UpstreamFailure

if TYPE_CHECKING:
    from decimal import Decimal

    from lunar_core.types.completions import ChatCompletion, Completion


class LunarError(Exception):
    """The base class of every error of this package. Each error has all attributes; an unknown one is None.

    ``status_code``: the HTTP status. ``request_id``: the service's id of the request.
    ``body``: the decoded JSON of the error, or its text. ``attempts``: every request that was made.
    ``call_id``: the client's id of the call, which observers get too.
    ``partial``: the part of a stream that came before it failed, with its usage if that came.
    ``was_sent``: False if it is certain that no byte of the request was sent.
    ``upstream``: the failure of the provider behind a gateway, read from the gateway's message.

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
        """Whether the same request may succeed in a moment. May be set to another value."""
        return may_fare_better(self) if self._is_retryable is None else self._is_retryable

    @is_retryable.setter
    def is_retryable(self, value: bool) -> None:
        self._is_retryable = value


class ConfigurationError(LunarError, ValueError):
    """An invalid setting or parameter, which the text names. Nothing was sent.

    >>> Lunar(timeout=-1)
    Traceback (most recent call last):
        ...
    lunar_core.errors.ConfigurationError: timeout: ...
    """

    was_sent = False


def describe_error(error: BaseException) -> str:
    """An error in one line, as attempts, failed rows and logs name it.

    >>> describe_error(ValueError("no number"))
    'ValueError: no number'
    """
    return f"{type(error).__name__}: {error}"


def describe_unexpected(value: object) -> str:
    """The end of a ConfigurationError's text: a number itself, of anything else its type alone.

    A text may be a prompt or a key, and Python refuses to print an integer of thousands of digits.

    >>> describe_unexpected(-1), describe_unexpected("pk_live"), describe_unexpected(None)
    (', not -1', ', not a str', ', not None')
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return ""
    if value is None or isinstance(value, (int, float)):
        return f", not {value}"
    name = type(value).__name__
    return f", not {'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


class APIConnectionError(LunarError):
    """The service could not be reached, or closed the connection before its answer was complete."""


class APITimeoutError(APIConnectionError):
    """A timeout, or the ``total_timeout`` of the call, ended the request."""


class APIStatusError(LunarError):
    """An HTTP error status. ``retry_after``: seconds that the service asks to wait, or None."""

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
    """409: the request conflicts with another one. A retry may succeed."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request has the wrong form."""


class RateLimitError(APIStatusError):
    """429: too many requests for this key."""


class InternalServerError(APIStatusError):
    """500 and above: the service, or every provider behind it, failed."""


class APIResponseValidationError(LunarError):
    """The service answered 200 with a body that is no valid answer."""


class ResponseTooLargeError(LunarError):
    """An answer, counted after decompression, was larger than ``Limits`` allow."""


class APIStreamError(LunarError):
    """A stream failed: an error event, a malformed chunk, or an early end."""


class AnswerFailedError(APIStreamError, APIResponseValidationError):
    """The service answered 200 and stated a failure: an error beside the answer or in it, or in an event.

    ``status_code``: the code in the stated failure, or None. ``partial``: the answer as far as it came, with its usage.
    """


class OutputTruncatedError(LunarError):
    """The JSON that the model wrote, an object or a tool call's arguments, is incomplete.

    ``output``: the JSON as far as it came. ``finish_reason``: why the model stopped, or None if the service stated no
    reason. ``token_limit``: the ``max_tokens`` of the request, or None if the limit was the model's own.
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
    """The service stated no cost for a stream: its cost is unknown, not zero.

    >>> import warnings
    >>> warnings.simplefilter("error", LunarCostWarning)  # to have it raised
    """


class BudgetExceededError(LunarError):
    """An observer's ``before`` refused the call, because it would exceed a budget. Nothing was sent.

    A ``Budget`` sets the attributes. ``budget``: its name. ``key``: the value of its tag ``per``. ``unit``: "usd",
    "tokens" or "calls". ``limit``, ``spent``, ``held`` and ``asked`` (what this call may take; None if unknown) are
    amounts in that unit. ``resets_at``: seconds since the epoch. Each is None if another observer raised the error.

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
    """Whether the same request may succeed if it is made again, by the error's class, status and message. Pure."""
    if isinstance(error, APIConnectionError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    if error.upstream is not None:
        return error.upstream.may_pass
    if isinstance(error, APIStatusError):
        # By the class too: a test double may raise a RateLimitError without its status.
        is_transient = isinstance(error, (ConflictError, RateLimitError, InternalServerError))
        return is_transient or error.status_code == 408
    return isinstance(error, APIStreamError) and error.status_code not in PERMANENT


PERMANENT = frozenset({400, 401, 403, 404, 422})
"""Statuses of requests that the service refused: the same request is refused again."""


E = TypeVar("E", bound=LunarError)


def unsent(error: E) -> E:
    """Mark ``error`` as raised before any byte of the request was sent. Returns it."""
    error.was_sent = False
    return error


class LedgerError(LunarError):
    """A stored ledger could not be opened, read or written. The text names it without its password."""


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
