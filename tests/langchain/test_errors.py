"""Failures: one object for both kinds of except, with all that is known of it."""

from __future__ import annotations

import pickle
from copy import copy, deepcopy

import pytest
from langchain_core import exceptions as langchain

import lunar_core
from langchain_lunar import lunar_retry_on
from langchain_lunar.errors import model_error
from lunar_core import APIStreamError, ConfigurationError, LunarError
from lunar_core.errors import class_for_status, may_fare_better
from tests.faults import nobody_listens
from tests.faults_steps import completion, hang, reply, reset

# What LangGraph's own policy never runs again, whatever is_retryable says.
SKIPPED_BY_LANGGRAPH = (
    ValueError,
    TypeError,
    ArithmeticError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    RuntimeError,
    ReferenceError,
    StopIteration,
    StopAsyncIteration,
    OSError,
)

STATUSES = {
    400: (lunar_core.BadRequestError, langchain.ModelInvalidRequestError, False),
    401: (lunar_core.AuthenticationError, langchain.ModelAuthenticationError, False),
    403: (lunar_core.PermissionDeniedError, langchain.ModelPermissionDeniedError, False),
    404: (lunar_core.NotFoundError, langchain.ModelNotFoundError, False),
    408: (lunar_core.APIStatusError, langchain.ModelTimeoutError, True),
    409: (lunar_core.ConflictError, langchain.ModelAPIError, True),
    413: (lunar_core.APIStatusError, langchain.ModelInvalidRequestError, False),
    422: (lunar_core.UnprocessableEntityError, langchain.ModelInvalidRequestError, False),
    429: (lunar_core.RateLimitError, langchain.ModelRateLimitError, True),
    500: (lunar_core.InternalServerError, langchain.ModelAPIError, True),
    503: (lunar_core.InternalServerError, langchain.ModelAPIError, True),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_an_error_of_both_kinds(scripted, fault_server, way, status, streamed):
    ours, theirs, retryable = STATUSES[status]
    body = {"detail": "no such luck", "retry_after": 7}
    fault_server.script(reply(status, json=body, headers=["x-request-id: req_1"]))
    ask = way.stream if streamed else way.invoke
    with pytest.raises(ours) as failed:
        ask(scripted(), "hi")
    error = failed.value
    assert isinstance(error, theirs)
    assert error.is_retryable is retryable
    assert "no such luck" in str(error)
    assert (error.status_code, error.request_id, error.body) == (status, "req_1", body)
    assert error.retry_after == 7
    assert [attempt.status_code for attempt in error.attempts] == [status]
    assert error.__suppress_context__
    assert not isinstance(error, SKIPPED_BY_LANGGRAPH)


WITHOUT_STATUS = {
    "hung up": ([reset], lunar_core.APIConnectionError, langchain.ModelConnectionError, True),
    "too slow": ([hang], lunar_core.APITimeoutError, langchain.ModelTimeoutError, True),
    "no answer": (
        reply(json={}),
        lunar_core.APIResponseValidationError,
        langchain.ModelAPIError,
        False,
    ),
}


@pytest.mark.parametrize("how", WITHOUT_STATUS)
def test_so_is_each_failure_without_a_status(scripted, fault_server, way, how):
    answer, ours, theirs, retryable = WITHOUT_STATUS[how]
    fault_server.script(answer)
    patience = 0.3 if answer == [hang] else 60
    with pytest.raises(ours) as failed:
        way.invoke(scripted(), "hi", timeout=patience)
    assert isinstance(failed.value, theirs)
    assert failed.value.is_retryable is retryable
    assert not isinstance(failed.value, SKIPPED_BY_LANGGRAPH)


def test_a_service_that_is_not_there_is_a_connection_error(scripted, way):
    with pytest.raises(langchain.ModelConnectionError) as failed:
        way.invoke(scripted(base_url=nobody_listens()), "hi")
    assert isinstance(failed.value, lunar_core.APIConnectionError)


TOO_LONG = [
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000",
    "Error code: 400 - {'code': 'context_length_exceeded'}",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Input is too long for requested model.",
    "The input token count (1050000) exceeds the maximum number of tokens allowed",
    "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "Please reduce the length of the messages or completion.",
    "Your input exceeds the context window of this model",
    "All providers failed for model 'm': Input tokens exceed the configured limit of 272000 tokens.",
]


@pytest.mark.parametrize("status", [400, 413, 422, 502])
@pytest.mark.parametrize("text", TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_from_the_services_words(text, status):
    raw = class_for_status(status)(f"{status}: {text}", status_code=status)
    error = model_error(raw)
    assert isinstance(error, langchain.ContextOverflowError)
    assert isinstance(error, type(raw))
    assert not error.is_retryable


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "max_tokens is too large"),
        (404, "All providers failed for model 'x': Model not found"),
        (429, "Rate limit reached: please reduce the length of the messages, or wait"),
        (503, "Too many tokens, please wait before trying again."),
        (422, "this tool has too long a name"),
    ],
)
def test_other_words_are_not_mistaken_for_that(status, text):
    error = model_error(class_for_status(status)(text, status_code=status))
    assert not isinstance(error, langchain.ContextOverflowError)


@pytest.mark.parametrize(
    ("status", "theirs"),
    [
        (None, langchain.ModelConnectionError),
        (400, langchain.ModelInvalidRequestError),
        (401, langchain.ModelAuthenticationError),
        (404, langchain.ModelNotFoundError),
        (429, langchain.ModelRateLimitError),
        (500, langchain.ModelAPIError),
    ],
)
def test_an_error_in_a_stream_is_what_its_status_says(status, theirs):
    raw = APIStreamError("the service broke the stream off", status_code=status)
    error = model_error(raw)
    assert isinstance(error, theirs)
    assert isinstance(error, APIStreamError)
    assert error.is_retryable is may_fare_better(raw)


EVERY_CLASS = [
    value
    for value in vars(lunar_core).values()
    if isinstance(value, type) and issubclass(value, LunarError) and value is not ConfigurationError
]


@pytest.mark.parametrize("ours", EVERY_CLASS)
def test_each_error_of_the_core_is_a_model_error_that_can_be_pickled_and_copied(ours):
    raw = ours("it failed", status_code=418, request_id="req_1", body={"a": [1]})
    raw.attempts = (lunar_core.Attempt("m", 418, "it failed", 0.5),)
    error = model_error(raw)
    assert isinstance(error, ours)
    assert isinstance(error, langchain.ModelError)
    assert type(error).__name__ == ours.__name__
    for twin in (pickle.loads(pickle.dumps(error)), copy(error), deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == "it failed"
        assert vars(twin) == vars(error)


def test_the_partial_answer_of_a_broken_stream_travels_too(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    error = APIStreamError("cut", partial=lunar_core.ChatCompletion.model_validate(completion()))
    twin = pickle.loads(pickle.dumps(model_error(error)))
    assert twin.partial.usage.total_cost_usd == error.partial.usage.total_cost_usd


def test_an_error_that_is_both_already_stays_itself():
    error = model_error(lunar_core.RateLimitError("slow down", status_code=429))
    assert model_error(error) is error


def test_a_mistake_of_the_callers_stays_what_it_is_and_is_never_tried_again(scripted, way):
    with pytest.raises(ConfigurationError) as refused:
        way.invoke(scripted(temperature=9), "hi")
    assert type(refused.value) is ConfigurationError
    assert not lunar_retry_on(refused.value)


def test_a_budget_that_refuses_is_a_model_error_that_no_retry_mends(chat, way, lunar_sandbox):
    class Miser:
        def before(self, call):
            raise lunar_core.BudgetExceededError("nothing left")

        def after(self, outcome):
            raise AssertionError("there was no call")

    with pytest.raises(lunar_core.BudgetExceededError) as refused:
        way.invoke(chat(observers=[Miser()]), "hi")
    assert isinstance(refused.value, langchain.ModelError)
    assert not lunar_retry_on(refused.value)
    assert lunar_sandbox.requests() == []


# LangGraph


@pytest.mark.parametrize("status", STATUSES)
def test_a_node_of_langgraph_is_run_again_when_the_core_would_ask_again(status):
    ours, _, retryable = STATUSES[status]
    raw = ours("it failed", status_code=status)
    assert lunar_retry_on(model_error(raw)) is lunar_retry_on(raw) is retryable


@pytest.mark.parametrize(
    ("error", "again"), [(ConnectionError(), True), (ValueError(), False)], ids=repr
)
def test_other_errors_of_a_node_are_left_to_langgraph(error, again):
    assert lunar_retry_on(error) is again


# Retries


def test_a_request_is_made_once_when_no_retry_is_wanted(scripted, fault_server, way):
    fault_server.always(reply(503))
    with pytest.raises(langchain.ModelAPIError):
        way.invoke(scripted(max_retries=0), "hi")
    assert len(fault_server.requests) == 1


def test_langchains_own_retry_knows_what_may_be_retried(scripted, fault_server, way):
    fault_server.script(reply(503), reply(json=completion("hi")))
    model = scripted().with_retry(
        retry_if_exception_type=(langchain.ModelAPIError,), wait_exponential_jitter=False
    )
    assert way.invoke(model, "hi").content == "hi"


@pytest.mark.parametrize("fault", ["context-length", "502-context"])
def test_a_prompt_that_is_too_long_is_a_context_overflow_however_the_service_says_it(
    chat, way, fault
):
    with pytest.raises(langchain.ContextOverflowError) as caught:
        way.invoke(chat(f"gpt-4o!{fault}"), "hi")
    assert not caught.value.is_retryable


def test_a_providers_rate_limit_behind_the_gateway_is_one_of_langchains(chat, way):
    with pytest.raises(langchain.ModelRateLimitError):
        way.invoke(chat("gpt-4o!502-rate-limit"), "hi")
