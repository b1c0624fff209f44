"""A budget by itself, in memory: what it lets through, what it holds, and what a call comes to in the end."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest

from lunar_core import (
    Attempt,
    Budget,
    BudgetExceededError,
    ChatCompletion,
    ConfigurationError,
    Ledger,
    Model,
    Prices,
    Usage,
)
from lunar_core.cost.budget.calls import CallsUnderWay
from lunar_core.cost.budget.counters import Hold
from lunar_core.wire.model_facts import ROUTED
from tests.core.budget_calls import GOOD, Clock, outcome, spend, start

PRICES = Prices.of(
    [
        Model(id="cheap", input_per_million=1.0, output_per_million=2.0),
        Model(id="dear", input_per_million=10.0, output_per_million=20.0),
    ]
)
ANSWER = ChatCompletion(
    choices=[{"message": {"content": "one two three"}, "finish_reason": "stop"}]
)
FAILED = Attempt("cheap", None, "APIConnectionError: cut off", 0.1)
REFUSED = Attempt("cheap", 503, "InternalServerError: 503", 0.1)
UNSENT = Attempt("cheap", None, "APIConnectionError: refused", 0.1, was_sent=False)


# The invariant


def test_a_call_is_let_through_if_it_fits_to_the_last_digit():
    budget = Budget(usd="0.3", reserve="0.1")
    for number in range(3):
        budget.before(start(number))
    with pytest.raises(BudgetExceededError):
        budget.before(start(3))
    state = budget.state()
    assert (state.held, state.spent, state.remaining) == (Decimal("0.3"), 0, 0)
    assert (state.calls, state.refused) == (3, 1)


def test_what_a_call_cost_takes_the_place_of_what_was_held():
    budget = Budget(usd=1, reserve="0.5")
    spend(budget, 1, 0.000045)
    state = budget.state()
    assert (state.spent, state.held, state.remaining) == (
        Decimal("0.000045"),
        0,
        Decimal("0.999955"),
    )
    budget.before(start(2))
    with pytest.raises(BudgetExceededError):
        budget.before(start(3))


@pytest.mark.parametrize(("limit", "unit"), [("50", "usd"), (50, "tokens"), (50, "calls")])
def test_of_200_threads_at_once_50_are_let_through(limit, unit):
    budget = Budget(**{unit: limit}, reserve=1)
    barrier = threading.Barrier(8)

    def ask(worker):
        barrier.wait()
        sent = 0
        for number in range(25):
            try:
                budget.before(start(f"{worker}_{number}"))
            except BudgetExceededError:
                continue
            sent += 1
            usage = Usage(total_tokens=1, total_cost_usd=1.0)
            budget.after(outcome(f"{worker}_{number}", usage=usage))
        return sent

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 50
    state = budget.state()
    assert (state.spent, state.held, state.calls, state.refused) == (50, 0, 50, 150)


def test_a_call_is_settled_once():
    budget = Budget(usd=1, reserve="0.5")
    budget.before(start(1))
    for _ in range(3):
        budget.after(outcome(1, cost=0.25))
    budget.after(outcome("unknown", cost=0.25))
    assert budget.state().spent == Decimal("0.25")


def test_amounts_are_rounded_up_to_what_a_counter_has():
    budget = Budget(usd=1, reserve=0)
    spend(budget, 1, 1e-13)
    assert budget.state().spent == Decimal("1e-12")


def test_the_callers_decimal_context_changes_nothing():
    with localcontext() as context:
        context.prec = 3
        budget = Budget(usd="1.23456", reserve=0)
        spend(budget, 1, 0.123456)
        assert (str(budget.limit), str(budget.state().spent)) == ("1.23456", "0.123456")


# What a call came to


@pytest.mark.parametrize(
    ("ended", "spent", "assumed"),
    [
        (outcome(cost=0.25), "0.25", "0"),
        (outcome(usage=Usage(prompt_tokens=1000, completion_tokens=1000)), "0.003", "0"),
        (outcome(read_answer=lambda: ANSWER), "0.000009", "0"),
        (outcome(model="unknown"), "1", "1"),
        (outcome(status="aborted", read_answer=lambda: ANSWER), "1", "1"),
        (outcome(status="aborted", cost=0.25), "0.25", "0"),
        (outcome(status="aborted", attempts=[]), "1", "1"),
        (outcome(status="aborted", attempts=[REFUSED]), "0", "0"),
        (outcome(status="failed", attempts=[FAILED]), "1", "1"),
        (outcome(status="failed", cost=0.25, attempts=[FAILED]), "0.25", "0"),
        (outcome(status="failed", attempts=[UNSENT]), "0", "0"),
        (outcome(status="failed", attempts=[UNSENT, REFUSED]), "0", "0"),
        (outcome(status="failed", attempts=[]), "0", "0"),
        (outcome(status="failed", attempts=[FAILED, REFUSED]), "1", "1"),
        (outcome(cost=0.25, attempts=[FAILED, REFUSED, UNSENT, FAILED, GOOD]), "2.25", "2"),
        (outcome(status="refused", attempts=[]), "0", "0"),
    ],
    ids=[
        "stated",
        "tokens stated",
        "counted here",
        "no price",
        "left",
        "left, cost stated",
        "cancelled",
        "cancelled after a refusal",
        "broken off",
        "broken off, cost stated",
        "never sent",
        "refused by the service",
        "no attempt",
        "refused after an attempt that may be billed",
        "after attempts that may be billed",
        "refused by another observer",
    ],
)
def test_a_call_comes_to_what_was_stated_or_what_it_may_have_been(ended, spent, assumed):
    budget = Budget(usd=100, reserve=1, prices=PRICES)
    budget.before(start())
    budget.after(ended)
    state = budget.state()
    assert (state.spent, state.assumed, state.held) == (Decimal(spent), Decimal(assumed), 0)


def test_a_call_whose_answer_cannot_be_read_is_counted_as_it_was_reserved(caplog):
    budget = Budget(usd=10, reserve=1, prices=PRICES)
    for number, answer in enumerate([lambda: 1 / 0, lambda: ANSWER]):
        budget.before(start(number))
        budget.after(outcome(number, read_answer=answer))
    state = budget.state()
    assert (state.spent, state.assumed, state.held) == (Decimal("1.000009"), 1, 0)
    assert "could not tell what call call_0 came to" in caplog.text


def test_a_tokens_budget_counts_tokens():
    budget = Budget(tokens=100, reserve=40)
    budget.before(start(1))
    budget.after(outcome(1, usage=Usage(prompt_tokens=7, completion_tokens=3)))
    budget.before(start(2))
    budget.after(outcome(2, read_answer=lambda: ANSWER))
    budget.before(start(3))
    budget.after(outcome(3, status="aborted", usage=Usage(prompt_tokens=7)))
    state = budget.state()
    counted = 1 + 4  # 1.25 times one word, and what ANSWER's text has
    assert (state.spent, state.assumed) == (10 + counted + 40, 40)


@pytest.mark.parametrize(
    ("ended", "spent"),
    [
        (outcome(), 1),
        (outcome(status="aborted"), 1),
        (outcome(status="failed", attempts=[FAILED]), 1),
        (outcome(status="failed", attempts=[REFUSED]), 0),
        (outcome(status="failed", attempts=[UNSENT]), 0),
        (outcome(status="refused", attempts=[]), 0),
        (outcome(attempts=[FAILED, FAILED, GOOD]), 3),
    ],
)
def test_a_calls_budget_counts_what_was_sent_and_not_refused(ended, spent):
    budget = Budget(calls=10)
    budget.before(start())
    budget.after(ended)
    assert (budget.state().spent, budget.state().held) == (spent, 0)


def test_a_decision_holds_nothing_and_counts_what_was_stated():
    budget = Budget(usd=1, reserve=1)
    budget.before(start(1, endpoint="router.decide"))
    assert budget.state().held == 0
    budget.after(outcome(1, endpoint="router.decide", cost=0.25))
    budget.before(start(2, endpoint="router.decide"))
    budget.after(outcome(2, endpoint="router.decide"))
    state = budget.state()
    assert (state.spent, state.assumed, state.calls) == (Decimal("0.25"), 0, 0)


def test_the_decision_before_a_call_is_counted_with_it():
    budget = Budget(usd=1, reserve=0)
    budget.before(start(1, model="router"))
    for _ in range(2):
        budget.after(outcome("1.route", endpoint="router.decide", cost=0.25))
    decision = Attempt("router", None, "APIConnectionError: cut off", 0.1)
    budget.after(outcome(1, cost=0.5, attempts=[decision, GOOD]))
    state = budget.state()
    assert (state.spent, state.assumed) == (Decimal("0.75"), 0)


def test_a_cost_no_counter_can_hold_stays_within_it():
    budget = Budget(usd=1, reserve=0)
    spend(budget, 1, 1e300)
    assert budget.state().remaining == 0


# What a call may take


def worst(call, **options):
    budget = Budget(tokens=10**9, reserve="worst", **options)
    budget.before(call)
    return budget.state().held


def test_the_worst_is_the_prompt_and_all_the_output_that_may_come():
    prompt = worst(start(params={"max_tokens": 1})) - 1
    assert prompt > 0
    assert worst(start()) == prompt + 4096
    assert worst(start(params={"max_tokens": 100, "n": 3})) == prompt + 300
    assert worst(start(params={"max_completion_tokens": 50})) == prompt + 50
    tools = [{"type": "function", "function": {"name": "f", "description": "word " * 100}}]
    assert worst(start(params={"tools": tools})) > prompt + 4096 + 100
    text = start(endpoint="completions", params={"prompt": "word " * 100, "messages": None})
    assert worst(text) >= 4096 + 100


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": None, "tool_calls": [{"id": "c1"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": 7}, "text"]}],
        [{"role": "tool", "content": [7]}],
        "no list",
    ],
)
def test_messages_of_an_odd_form_are_counted_all_the_same(messages):
    assert worst(start(params={"messages": messages})) > 4096


def test_it_is_priced_at_the_dearest_model_that_may_answer():
    def held(**options):
        budget = Budget(usd=100, reserve="worst", prices=PRICES)
        budget.before(start(params={"max_tokens": 1000}, **options))
        return budget.state().held

    cheap, dear = held(models=("cheap",)), held(models=("cheap", "dear"))
    assert dear == 10 * cheap
    assert held() == cheap
    assert held(models=("openai/cheap",)) == cheap


def test_a_router_that_was_told_no_candidates_may_take_any():
    priced = Prices.of([Model(id="gpt-4o", input_per_million=1.0, output_per_million=1.0)])
    budget = Budget(usd=100, reserve="worst", prices=priced)
    with pytest.raises(BudgetExceededError, match="no price is known of router"):
        budget.before(start(model="router"))
    priced = [Model(id=name, input_per_million=1.0, output_per_million=10.0) for name in ROUTED]
    budget = Budget(usd=100, reserve="worst", prices=Prices.of(priced))
    budget.before(start(model="router"))
    assert budget.state().held > Decimal("0.04")  # 4,096 tokens, and more


def test_a_call_that_may_take_more_than_the_whole_budget_is_told_what_says_less():
    budget = Budget(usd="0.001", prices=PRICES)
    with pytest.raises(BudgetExceededError, match="more than the whole budget: max_tokens= of the"):
        budget.before(start(model="dear", params={"max_tokens": 1_000_000}))
    budget = Budget(calls=1)
    budget.before(start(1))
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(2))
    assert "whole budget" not in str(refused.value)


def test_without_an_amount_the_next_call_may_take_what_the_dearest_of_the_last_20_did():
    budget = Budget(tokens=100_000)
    budget.before(start("first"))
    assert 1024 < budget.state().held < 1100
    budget.after(outcome("first", usage=Usage(total_tokens=500)))

    def held():
        budget.before(start("next"))
        held = budget.state().held
        budget.after(outcome("next", status="refused", attempts=[]))
        return held

    assert held() == 500
    for number in range(19):
        budget.before(start(number))
        budget.after(outcome(number, usage=Usage(total_tokens=number)))
    assert held() == 500
    budget.before(start("last"))
    budget.after(outcome("last", usage=Usage(total_tokens=7)))
    assert held() == 18


def test_calls_that_were_refused_say_nothing_of_what_the_next_may_take():
    budget = Budget(tokens=100_000)
    for number, attempts in enumerate(([REFUSED], [UNSENT])):
        budget.before(start(number))
        budget.after(outcome(number, status="failed", attempts=attempts))
    budget.before(start("next"))
    assert budget.state().held > 1024


def test_attempts_that_may_be_billed_do_not_swell_what_is_reserved_next():
    budget = Budget(tokens=100_000)
    for number in range(5):
        budget.before(start(number))
        budget.after(
            outcome(number, usage=Usage(total_tokens=100), attempts=[FAILED, FAILED, GOOD])
        )
    budget.before(start("next"))
    assert budget.state().held == 100


def test_a_call_of_which_nobody_can_tell_what_it_may_take_is_refused_or_allowed():
    unknown = start(model="unknown")
    with pytest.raises(
        BudgetExceededError, match=r"reserve=.*prices=.*unpriced='allow'"
    ) as refused:
        Budget(usd=1, prices=PRICES).before(unknown)
    assert refused.value.asked is None
    budget = Budget(usd=1, prices=PRICES, unpriced="allow")
    budget.before(unknown)
    assert (budget.state().held, budget.state().calls) == (0, 1)


def test_prices_are_the_ledgers_where_the_budget_has_none_of_its_own():
    budget = Budget(usd=100, reserve="worst", ledger=Ledger(prices=PRICES))
    budget.before(start(params={"max_tokens": 1000}))
    assert Decimal("0.002") < budget.state().held < Decimal("0.003")


# Keys


def test_each_value_of_the_tag_has_the_whole_limit_and_calls_without_it_share_one():
    budget = Budget(calls=1, per="user")
    for name in ({"user": "u1"}, {"user": "u2"}, {"other": "x"}):
        budget.before(start(str(name), tags=name))
        with pytest.raises(BudgetExceededError) as refused:
            budget.before(start(f"{name} again", tags=name))
        assert refused.value.key == name.get("user")
    assert {key: state.calls for key, state in budget.states().items()} == {
        "u1": 1,
        "u2": 1,
        None: 1,
    }
    assert budget.state("nobody").remaining == 1


def test_a_key_is_read_as_tags_are_written_and_refused_where_all_calls_count_together():
    budget = Budget(calls=3, per="user")
    budget.before(start(1, tags={"user": "7"}))
    budget.after(outcome(1))
    assert budget.state(7).calls == budget.state("7").calls == 1
    together = Budget(calls=3)
    assert together.state().calls == 0
    for look in (together.state, together.release):
        with pytest.raises(ConfigurationError, match=r"^key: budget 'budget' has no per="):
            look("7")


# Windows


def test_a_new_window_begins_with_nothing_spent():
    clock = Clock(datetime(2026, 3, 1, 23, 59, tzinfo=timezone.utc).timestamp())
    budget = Budget(usd=1, window="day", reserve=1, clock=clock)
    spend(budget, 1, 1.0)
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(2))
    assert refused.value.resets_at == clock.now + 60 == budget.state().resets_at
    clock.now += 60
    spend(budget, 3, 1.0)
    clock.now -= 60  # set back: it fills nothing
    with pytest.raises(BudgetExceededError):
        budget.before(start(4))


def test_a_call_belongs_to_the_window_in_which_it_began():
    clock = Clock(0.0)
    budget = Budget(usd=1, window="hour", reserve=1, clock=clock)
    budget.before(start(1))
    clock.now = 3600.0
    budget.after(outcome(1, cost=1.0))
    assert budget.state().spent == 0
    clock.now = 0.0
    assert budget.state().spent == 1


def test_a_rolling_window_forgets_what_is_older():
    clock = Clock()
    budget = Budget(calls=1, window=timedelta(seconds=60), clock=clock)
    began = clock.now
    budget.before(start(1))
    budget.after(outcome(1))
    resets_at = budget.state().resets_at
    assert began + 60 <= resets_at <= began + 61
    for clock.now in (began + 30, began - 30, began + 60):
        with pytest.raises(BudgetExceededError):
            budget.before(start(2))
    clock.now = resets_at
    budget.before(start(3))


def test_windows_long_past_are_dropped():
    clock = Clock(0.0)
    budget = Budget(calls=1, window="hour", per="user", clock=clock)
    for hour in range(1000):
        clock.now = hour * 3600.0
        budget.before(start(hour))
        budget.after(outcome(hour))
        budget.state()
    (counters,) = budget._counters._keys.values()
    assert len(counters) < 10


# Holds


def test_holds_older_than_an_hour_can_be_given_back_and_a_late_call_still_counts():
    clock = Clock()
    budget = Budget(usd=2, reserve=1, clock=clock)
    budget.before(start("old"))
    clock.now += 1800
    budget.before(start("young"))
    clock.now += 1801
    assert budget.release() == 1
    assert budget.state().held == 1
    assert budget.release() == 0
    budget.after(outcome("old", cost=0.75))
    budget.after(outcome("young", cost=0.5))
    assert (budget.state().spent, budget.state().held) == (Decimal("1.25"), 0)


def test_what_calls_came_to_is_told_again_until_it_is_counted():
    calls = CallsUnderWay("usd")
    calls.begin(Hold("call_0", None, 0.0, 5, 0.0))
    calls.put(outcome(0, cost=0.25))
    settlements = list(calls.settle(None))
    assert [settlement.hold.amount for settlement in settlements] == [5]
    assert calls.settle(None) == settlements  # an interrupt came before they were counted
    calls.forget_settled()
    assert calls.settle(None) == []


def test_an_interrupt_while_a_call_is_let_through_leaves_nothing_held():
    class Interrupted(logging.Handler):
        def emit(self, record):
            raise KeyboardInterrupt

    budget = Budget(usd="1", reserve="0.9")
    logger, handler = logging.getLogger("lunar_core"), Interrupted()
    logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            budget.before(start(0))  # warns that nine tenths are held
    finally:
        logger.removeHandler(handler)
    assert budget.state().held == 0
