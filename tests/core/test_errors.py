"""The tree of errors: every one is a LunarError, is found by its status, and survives a pickle."""

import copy
import inspect
import pickle
import re

import pytest

from lunar_core import APIStatusError, Attempt, ChatCompletion, LunarError, errors

TREE = {
    "ConfigurationError": ("LunarError", "ValueError"),
    "APIConnectionError": ("LunarError",),
    "APITimeoutError": ("APIConnectionError",),
    "APIStatusError": ("LunarError",),
    "BadRequestError": ("APIStatusError",),
    "AuthenticationError": ("APIStatusError",),
    "PermissionDeniedError": ("APIStatusError",),
    "NotFoundError": ("APIStatusError",),
    "ConflictError": ("APIStatusError",),
    "UnprocessableEntityError": ("APIStatusError",),
    "RateLimitError": ("APIStatusError",),
    "InternalServerError": ("APIStatusError",),
    "APIResponseValidationError": ("LunarError",),
    "ResponseTooLargeError": ("LunarError",),
    "APIStreamError": ("LunarError",),
    "AnswerFailedError": ("APIStreamError", "APIResponseValidationError"),
    "OutputTruncatedError": ("LunarError",),
    "ToolChoiceIgnoredError": ("LunarError",),
    "BudgetExceededError": ("LunarError",),
    "LedgerError": ("LunarError",),
}
KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, LunarError)
]


def test_the_tree_is_as_documented():
    grown = {
        kind.__name__: tuple(base.__name__ for base in kind.__bases__)
        for kind in KINDS
        if kind is not LunarError
    }
    assert grown == TREE


def test_the_modules_docstring_draws_that_tree():
    parents, drawn = {-1: "Exception"}, {}
    for dent, name in re.findall(r"^( *)[*x+] (\w+)", errors.__doc__ or "", re.MULTILINE):
        parents[len(dent)] = name
        drawn[name] = parents[max((level for level in parents if level < len(dent)), default=-1)]
    assert drawn.pop("LunarError") == "Exception"
    assert drawn == {name: bases[0] for name, bases in TREE.items()}


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (502, "InternalServerError"),
        (599, "InternalServerError"),
        (302, "APIStatusError"),
        (402, "APIStatusError"),
        (408, "APIStatusError"),
        (418, "APIStatusError"),
        (451, "APIStatusError"),
    ],
)
def test_each_status_has_its_class(status, name):
    assert errors.class_for_status(status).__name__ == name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_a_copy_of_an_error_says_all_that_the_error_did(kind, copied):
    error = kind(
        "503: overloaded",
        status_code=503,
        request_id="req_7",
        body={"detail": "overloaded"},
        partial=ChatCompletion(choices=[]),
    )
    error.attempts = (Attempt("gpt-4o", 503, "InternalServerError: 503: overloaded", 0.25),)
    error.call_id = "call_7"
    if isinstance(error, APIStatusError):
        error.retry_after = 2.5
    twin = copied(error)
    assert type(twin) is kind
    assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", KINDS)
def test_every_attribute_is_there_on_every_error(kind):
    error = kind()
    assert str(error) == error.message == ""
    assert (error.status_code, error.request_id, error.body, error.partial) == (None,) * 4
    assert (error.attempts, error.call_id) == ((), None)
    if isinstance(error, APIStatusError):
        assert error.retry_after is None


def test_a_refused_setting_can_be_caught_as_the_value_error_that_it_is():
    with pytest.raises(ValueError, match="top_p"):
        raise errors.ConfigurationError("top_p: must be between 0 and 1")


def test_an_attempt_is_a_value():
    attempt = Attempt("gpt-4o", None, "APITimeoutError: …", 5.0)
    assert attempt == Attempt("gpt-4o", None, "APITimeoutError: …", 5.0)
    assert pickle.loads(pickle.dumps(attempt)) == attempt


# Whether asking again may help


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (errors.APIConnectionError("refused"), True),
        (errors.APIConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]"), False),
        (errors.RateLimitError(status_code=429), True),
        (errors.InternalServerError(status_code=503), True),
        (errors.ConflictError(status_code=409), True),
        (errors.RateLimitError("raised by a test double, without a status"), True),
        (errors.APIStatusError(status_code=408), True),
        (errors.BadRequestError(status_code=400), False),
        (errors.APIStreamError("cut"), True),
        (errors.APIStreamError("refused", status_code=404), False),
        (errors.AnswerFailedError("died", status_code=502), True),
        (errors.AnswerFailedError("refused", status_code=400), False),
        (errors.APIResponseValidationError("no JSON"), False),
        (errors.OutputTruncatedError("half"), False),
        (errors.ToolChoiceIgnoredError("no call"), False),
        (errors.ConfigurationError("top_p"), False),
    ],
    ids=repr,
)
def test_an_error_says_whether_the_same_request_may_fare_better(error, retryable):
    assert error.is_retryable is retryable


def test_whoever_knows_better_may_say_so():
    error = errors.InternalServerError(status_code=502)
    error.is_retryable = False
    assert not pickle.loads(pickle.dumps(error)).is_retryable
