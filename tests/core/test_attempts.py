"""Which request comes next, and after how long: plans, driven by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core.client import attempts
from lunar_core.client.attempts import Policy, Reply
from lunar_core.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStreamError,
    APITimeoutError,
    BudgetExceededError,
    ConfigurationError,
    ResponseTooLargeError,
    class_for_status,
)
from lunar_core.wire import api_requests

HELLO = [{"role": "user", "content": "Hello!"}]


def call_to(model):
    return api_requests.chat({"model": model, "messages": HELLO})


def status(code, *, retry_after=None):
    error = class_for_status(code)(f"{code}", status_code=code)
    error.retry_after = retry_after
    return error


class Clock:
    """Time that passes only when a plan waits, or an attempt takes it."""

    def __init__(self, *, until=math.inf, per_attempt=0.0):
        self.now, self.until, self.per_attempt = 0.0, until, per_attempt

    def time_left(self):
        return self.until - self.now


def policy(max_retries=2, *, jitter=1.0, clock=None):
    return Policy(max_retries, lambda: jitter, (clock or Clock()).time_left)


def drive(plan, outcomes, *, clock=None):
    """What a plan sent, as (model or path, wait), and its last reply. An outcome is an error or an answer."""
    clock, outcomes, sent = clock or Clock(), iter(outcomes), []
    try:
        send = next(plan)
        while True:
            clock.now += send.after + clock.per_attempt
            sent.append((send.request.model or send.request.path, send.after))
            outcome = next(outcomes)
            failed = isinstance(outcome, Exception)
            reply = Reply(send.request, **{"error" if failed else "answer": outcome}, seconds=0.25)
            send = plan.send(reply)
    except StopIteration as stop:
        return sent, stop.value


def asked(*models, outcomes, **options):
    """The models that were asked, in order, and what came of it in the end."""
    plan = attempts.ask([call_to(model) for model in models], policy(**options))
    sent, reply = drive(plan, outcomes)
    return [model for model, _wait in sent], reply


# Errors that may pass, and errors that do not

TRANSIENT = [
    status(429),
    status(500),
    status(502),
    status(503),
    status(599),
    APIConnectionError("reset"),
    APITimeoutError("slow"),
    APIStreamError("cut"),
    APIStreamError("overloaded", status_code=503),
    APIStreamError("slow down", status_code=429),
]
ONLY_RETRIED = [status(408), status(409)]
ONLY_FALLS_BACK = [
    APIResponseValidationError("HTML"),
    APIConnectionError("CERTIFICATE_VERIFY_FAILED"),
]
PERMANENT = [
    status(400),
    status(401),
    status(402),
    status(403),
    status(404),
    status(413),
    status(418),
    status(422),
    status(307),
    APIStreamError("bad request", status_code=400),
    APIStreamError("no such model", status_code=404),
    ResponseTooLargeError("vast"),
    ConfigurationError("model: is empty"),
    BudgetExceededError("spent"),
]


@pytest.mark.parametrize(
    ("error", "retried", "falls_back"),
    [
        *((error, True, True) for error in TRANSIENT),
        *((error, True, False) for error in ONLY_RETRIED),
        *((error, False, True) for error in ONLY_FALLS_BACK),
        *((error, False, False) for error in PERMANENT),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, Exception) else "",
)
def test_each_error_is_tried_again_and_elsewhere_as_the_table_says(error, retried, falls_back):
    models, _ = asked("a", "b", outcomes=[error, error, "answer"], max_retries=1)
    assert models == ["a", *(["a"] if retried else []), *(["b"] if falls_back else [])]


# Retries


def test_the_first_answer_ends_the_plan():
    models, reply = asked("a", "b", outcomes=["answer"])
    assert (models, reply.answer, reply.error) == (["a"], "answer", None)


@pytest.mark.parametrize("max_retries", [0, 1, 2, 7])
def test_each_model_is_asked_once_and_max_retries_times_more(max_retries):
    models, reply = asked("a", outcomes=[status(503)] * 99, max_retries=max_retries)
    assert models == ["a"] * (max_retries + 1)
    assert reply.error.status_code == 503


def test_a_retry_may_succeed():
    models, reply = asked("a", outcomes=[status(503), APITimeoutError("slow"), "answer"])
    assert (models, reply.answer) == (["a"] * 3, "answer")


def test_every_attempt_is_written_down():
    kept = policy(1)
    drive(attempts.ask([call_to("a"), call_to("b")], kept), [status(503), status(429), "answer"])
    assert [(a.model, a.error, a.seconds) for a in kept.attempts] == [
        ("a", "InternalServerError: 503", 0.25),
        ("a", "RateLimitError: 429", 0.25),
        ("b", None, 0.25),
    ]


# Fallbacks


def test_models_are_asked_in_the_order_given_and_the_last_error_is_the_calls_own():
    outcomes = [status(503), status(502), status(429)]
    models, reply = asked("a", "b", "c", outcomes=outcomes, max_retries=0)
    assert (models, reply.error.status_code) == (["a", "b", "c"], 429)


def test_a_mistake_of_the_callers_after_a_passing_fault_is_what_is_raised():
    models, reply = asked("a", "b", "c", outcomes=[status(503), status(400)], max_retries=0)
    assert (models, reply.error.status_code) == (["a", "b"], 400)


# Waits


def waits(*outcomes, models=("a",), **options):
    plan = attempts.ask([call_to(model) for model in models], policy(**options))
    return [wait for _model, wait in drive(plan, outcomes)[0]]


def test_waits_double_from_half_a_second_up_to_eight():
    assert waits(*[status(503)] * 8, max_retries=7) == [0, 0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999])
def test_each_wait_is_drawn_from_below_its_bound(jitter):
    assert waits(status(503), status(503), status(503), jitter=jitter) == [
        0,
        0.5 * jitter,
        1.0 * jitter,
    ]


def test_the_next_model_is_asked_at_once():
    assert waits(status(503), status(503), "answer", models="ab", max_retries=1) == [0, 0.5, 0]


@pytest.mark.parametrize("seconds", [0.0, 0.2, 7.5, 60.0])
def test_a_wait_that_the_service_asks_for_is_kept(seconds):
    assert waits(status(429, retry_after=seconds), "answer") == [0, seconds]
    assert waits(status(503, retry_after=seconds), "answer") == [0, seconds]


def test_one_beyond_a_minute_is_the_callers_to_decide():
    models, reply = asked("a", outcomes=[status(429, retry_after=60.1)])
    assert (models, reply.error.retry_after) == (["a"], 60.1)


@pytest.mark.parametrize(("seconds", "models"), [(5.0, "aab"), (5.1, "ab")])
def test_with_another_model_left_five_seconds_are_the_most_to_wait(seconds, models):
    outcomes = [status(429, retry_after=seconds)] * (len(models) - 1)
    assert asked("a", "b", outcomes=[*outcomes, "answer"], max_retries=1)[0] == list(models)


def test_the_last_model_is_waited_for_like_an_only_one():
    slow = status(429, retry_after=30.0)
    assert waits(slow, slow, "answer", models="ab", max_retries=1) == [0, 0, 30.0]


def test_our_own_backoff_is_never_too_long_to_wait_for():
    outcomes = [status(503)] * 6
    models, _ = asked("a", "b", outcomes=[*outcomes, "answer"], max_retries=5)
    assert models == ["a"] * 6 + ["b"]


# Deadlines


def test_a_wait_that_would_outlast_the_deadline_is_not_begun():
    clock = Clock(until=2.0)
    plan = attempts.ask([call_to("a")], policy(clock=clock))
    sent, reply = drive(plan, [status(429, retry_after=2.0)], clock=clock)
    assert (sent, reply.error.status_code) == ([("a", 0.0)], 429)


def test_but_another_model_may_still_be_in_time():
    clock = Clock(until=2.0)
    plan = attempts.ask([call_to("a"), call_to("b")], policy(clock=clock))
    sent, reply = drive(plan, [status(429, retry_after=2.0), "answer"], clock=clock)
    assert ([model for model, _ in sent], reply.answer) == (["a", "b"], "answer")


def test_after_the_deadline_nobody_is_asked():
    clock = Clock(until=2.0, per_attempt=2.0)
    plan = attempts.ask([call_to("a"), call_to("b")], policy(clock=clock))
    assert drive(plan, [APITimeoutError("slow")], clock=clock)[0] == [("a", 0.0)]


# Whatever happens

OUTCOMES = st.lists(
    st.one_of(
        st.sampled_from([*TRANSIENT, *ONLY_RETRIED, *ONLY_FALLS_BACK, *PERMANENT, "answer"]),
        st.floats(0, 120).map(lambda seconds: status(429, retry_after=seconds)),
    ),
    min_size=60,
    max_size=60,
)


@given(
    OUTCOMES,
    st.integers(1, 4),
    st.integers(0, 5),
    st.floats(0, 1),
    st.just(math.inf) | st.floats(0.5, 90),
)
def test_no_course_of_events_breaks_the_rules(outcomes, models, max_retries, jitter, until):
    clock = Clock(until=until, per_attempt=0.1)
    names = [f"model-{number}" for number in range(models)]
    kept = policy(max_retries, jitter=jitter, clock=clock)
    sent, reply = drive(attempts.ask([call_to(n) for n in names], kept), outcomes, clock=clock)
    seen = outcomes[: len(sent)]

    # Never more than each model's share, in the order given, each model's attempts together.
    asked_models = [model for model, _ in sent]
    assert asked_models == sorted(asked_models)
    assert all(asked_models.count(name) <= max_retries + 1 for name in names)
    assert len(kept.attempts) == len(sent)
    # The last outcome is the plan's; nothing is asked after an answer or a permanent error.
    assert (reply.answer or reply.error) is seen[-1]
    assert not any(outcome == "answer" or outcome in PERMANENT for outcome in seen[:-1])
    for number, (model, wait) in enumerate(sent):
        if number == 0 or asked_models[number - 1] != model:
            assert wait == 0
            continue
        cause, retry = seen[number - 1], asked_models[:number].count(model) - 1
        stated = getattr(cause, "retry_after", None)
        patience = 60 if model == names[-1] else 5
        assert wait == stated <= patience if stated is not None else wait <= min(8, 0.5 * 2**retry)
    # A wait is begun only if it ends in time.
    assert clock.now - clock.per_attempt <= until or len(sent) == 1


# Decide, then call


def decided(**options):
    def run(outcomes, fallbacks=(), clock=None):
        plan = attempts.decide_then_call(
            api_requests.router({"messages": HELLO, "execute": False}),
            call_to,
            fallbacks,
            policy(**options),
            lambda answer: answer,
        )
        sent, reply = drive(plan, outcomes, clock=clock)
        return [model for model, _ in sent], reply

    return run


def test_the_model_that_the_router_names_is_asked():
    assert decided()(["gpt-4o", "answer"])[0] == ["router", "gpt-4o"]


def test_then_its_fallbacks_but_nobody_twice():
    busy = status(503)
    models, _ = decided(max_retries=0)(["b", busy, busy, busy], fallbacks=["a", "b", "c"])
    assert models == ["router", "b", "a", "c"]


def test_a_router_that_fails_is_retried_and_then_does_without():
    busy = status(503)
    assert decided(max_retries=1)([busy, busy, "answer"], fallbacks=["a"])[0] == [
        "router",
        "router",
        "a",
    ]
    models, reply = decided(max_retries=0)([busy])
    assert (models, reply.error) == (["router"], busy)


def test_nobody_is_asked_in_its_place_after_the_deadline():
    clock = Clock(until=2.0, per_attempt=2.0)
    models, _ = decided(max_retries=0, clock=clock)([status(503)], fallbacks=["a"], clock=clock)
    assert models == ["router"]


def test_a_router_that_refuses_the_request_ends_the_call():
    models, reply = decided()([status(422)], fallbacks=["a"])
    assert (models, reply.error.status_code) == (["router"], 422)


# The list of models


def test_a_service_without_a_list_of_models_is_asked_for_its_prices():
    sent, reply = drive(attempts.list_models(policy()), [status(404), "prices"])
    assert [path for path, _ in sent] == ["/v1/models", "/v1/pricing/models"]
    assert reply.answer == "prices"


@pytest.mark.parametrize("error", [status(401), status(403), status(500)], ids=str)
def test_no_other_error_sends_it_there(error):
    sent, reply = drive(attempts.list_models(policy(0)), [error])
    assert ([path for path, _ in sent], reply.error) == (["/v1/models"], error)
