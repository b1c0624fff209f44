"""A budget by itself, in memory: what it lets through, what it holds, and what a call comes to in the end."""

import copy
import gc
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest

from lunar_core import (
    Attempt,
    Budget,
    BudgetExceededError,
    CallInfo,
    CallStart,
    ChatCompletion,
    ConfigurationError,
    Ledger,
    Model,
    Outcome,
    Prices,
    Usage,
    tags,
)
from lunar_core.wire.model_facts import ROUTED

HELLO = [{"role": "user", "content": "Hello!"}]
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
GOOD = Attempt("cheap", 200, None, 0.1)


class Clock:
    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def start(number=0, *, endpoint="chat.completions", model="cheap", models=(), **options):
    params = {"messages": HELLO} | options.pop("params", {})
    return CallStart(f"call_{number}", endpoint, model, params, models=models, **options)


def outcome(number=0, status="ok", *, cost=None, usage=None, attempts=(GOOD,), **options):
    if cost is not None:
        usage = Usage(total_cost_usd=cost)
    told = {"endpoint": "chat.completions", "model": "cheap", "params": {"messages": HELLO}}
    call = CallInfo(f"call_{number}", "cheap", tuple(attempts))
    return Outcome(call, status=status, usage=usage, **told | options)


def spend(budget, number, cost, **options):
    budget.before(start(number, **options))
    budget.after(outcome(number, cost=cost, **options))


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
    with pytest.raises(BudgetExceededError, match="nobody can tell"):
        budget.before(start(model="router"))
    priced = [Model(id=name, input_per_million=1.0, output_per_million=10.0) for name in ROUTED]
    budget = Budget(usd=100, reserve="worst", prices=Prices.of(priced))
    budget.before(start(model="router"))
    assert budget.state().held > Decimal("0.04")  # 4,096 tokens, and more


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


# What happens to a call that does not fit


def test_the_error_has_all_there_is_to_say_and_can_be_pickled():
    clock = Clock(datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp())
    budget = Budget(usd="0.5", name="team", per="user", window="day", reserve="0.2", clock=clock)
    spend(budget, 1, 0.25, tags={"user": "u1"})
    budget.before(start(2, tags={"user": "u1"}))
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(3, tags={"user": "u1"}))
    for error in (refused.value, pickle.loads(pickle.dumps(refused.value))):
        fields = (error.budget, error.key, error.unit, error.limit, error.spent, error.held)
        assert fields == ("team", "u1", "usd", Decimal("0.5"), Decimal("0.25"), Decimal("0.2"))
        assert (error.asked, error.resets_at) == (Decimal("0.2"), clock.now + 12 * 3600)
        assert str(error) == (
            "budget 'team', user 'u1': this call may take 0.2 usd, and of 0.5 usd 0.25 are spent and 0.2 held "
            "for calls under way; it resets at 2026-03-02 00:00:00 UTC"
        )


def test_of_another_observers_refusal_none_of_it_is_known():
    error = BudgetExceededError("no")
    fields = ["budget", "key", "unit", "limit", "spent", "held", "asked", "resets_at"]
    assert [getattr(error, name) for name in fields] == [None] * len(fields)


def test_a_budget_that_warns_lets_through_counts_and_says_so_once_per_key_and_window(caplog):
    clock = Clock(0.0)
    budget = Budget(calls=1, per="user", window="hour", on_exceed="warn", warn_at=None, clock=clock)
    for key in ("u1", "u2"):
        for number in range(3):
            budget.before(start(f"{key} {number}", tags={"user": key}))
            budget.after(outcome(f"{key} {number}"))
    assert budget.state("u1").spent == budget.state("u1").calls == 3
    assert budget.state("u1").refused == 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "budget 'budget', user 'u1': this call may take 1 calls" in caplog.messages[0]
    clock.now = 3600.0
    for number in range(3):
        budget.before(start(number, tags={"user": "u1"}))
    assert len(caplog.records) == 3


def test_a_function_decides_over_the_error():
    asked = []

    def judge(error):
        asked.append(error)
        return error.key == "vip"

    budget = Budget(calls=0, per="user", on_exceed=judge)
    budget.before(start(1, tags={"user": "vip"}))
    with pytest.raises(BudgetExceededError) as refused:
        budget.before(start(2, tags={"user": "u1"}))
    assert asked[1] is refused.value
    assert (budget.state("vip").held, budget.state("vip").refused) == (1, 0)
    assert (budget.state("u1").held, budget.state("u1").refused) == (0, 1)


def test_a_share_of_the_limit_is_warned_of_once_in_each_window(caplog):
    clock = Clock(0.0)
    budget = Budget(usd=1, reserve="0.1", window="hour", clock=clock)
    for number in range(10):
        spend(budget, number, 0.1)
        assert len(caplog.records) == (number >= 7)
    assert caplog.messages == ["budget 'budget': 0.8 of 1 usd spent or held"]
    clock.now = 3600.0
    for number in range(10):
        spend(budget, number, 0.1)
    assert len(caplog.records) == 2


# The weight of cost


def test_the_weight_goes_up_from_the_start_to_the_top():
    budget = Budget(usd=1, reserve=0)
    weigh = budget.cost_weight(2, start=0.5, top=102)
    weights = []
    for number in range(6):
        weights.append(weigh())
        spend(budget, number, 0.2)
    assert weights == pytest.approx([2, 2, 2, 22, 62, 102])
    assert budget.state().spent > 1
    assert weigh() == 102


def test_the_weight_is_that_of_the_key_of_the_current_tags():
    budget = Budget(usd=1, per="user", reserve=0)
    spend(budget, 1, 1.0, tags={"user": "u1"})
    weigh = budget.cost_weight()
    with tags(user="u1"):
        assert weigh() == 100
    assert weigh() == 0


def test_held_money_counts_and_a_limit_of_nothing_is_used_up():
    budget = Budget(usd=1, reserve=1)
    budget.before(start())
    assert budget.cost_weight()() == 100
    assert Budget(usd=0).cost_weight(start=1)() == 100


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base": -1}, "base"),
        ({"base": True}, "base"),
        ({"base": "1"}, "base"),
        ({"start": 2}, "start"),
        ({"start": float("nan")}, "start"),
        ({"top": float("inf")}, "top"),
        ({"base": 5, "top": 1}, "top"),
    ],
)
def test_a_weight_that_cannot_work_is_refused(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        Budget(usd=1).cost_weight(**options)


# What cannot work


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "usd, tokens, calls"),
        ({"usd": 1, "calls": 1}, "usd, tokens, calls"),
        ({"usd": -1}, "usd"),
        ({"usd": float("inf")}, "usd"),
        ({"usd": float("nan")}, "usd"),
        ({"usd": "NaN"}, "usd"),
        ({"usd": True}, "usd"),
        ({"usd": "many"}, "usd"),
        ({"usd": 9_000_001}, "usd"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": "5"}, "tokens"),
        ({"tokens": 10**19}, "tokens"),
        ({"calls": True}, "calls"),
        ({"calls": -1}, "calls"),
        ({"calls": 1, "reserve": 2}, "reserve"),
        ({"usd": 1, "reserve": "best"}, "reserve"),
        ({"usd": 1, "reserve": -1}, "reserve"),
        ({"tokens": 1, "reserve": 0.5}, "reserve"),
        ({"usd": 1, "name": ""}, "name"),
        ({"usd": 1, "name": 7}, "name"),
        ({"usd": 1, "name": "a\0"}, "name"),
        ({"usd": 1, "per": ""}, "per"),
        ({"usd": 1, "per": ["user"]}, "per"),
        ({"usd": 1, "window": "year"}, "window"),
        ({"usd": 1, "timezone": "Mars"}, "timezone"),
        ({"usd": 1, "ledger": "costs.db"}, "ledger"),
        ({"usd": 1, "prices": {}}, "prices"),
        ({"usd": 1, "unpriced": "ask"}, "unpriced"),
        ({"usd": 1, "on_exceed": "stop"}, "on_exceed"),
        ({"usd": 1, "on_exceed": None}, "on_exceed"),
        ({"usd": 1, "warn_at": 2}, "warn_at"),
        ({"usd": 1, "warn_at": True}, "warn_at"),
        ({"usd": 1, "clock": 5.0}, "clock"),
    ],
)
def test_what_cannot_work_is_named(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        Budget(**options)


@pytest.mark.parametrize("now", [float("nan"), float("inf")])
def test_a_clock_that_tells_no_time_is_named(now):
    with pytest.raises(ConfigurationError, match=r"^clock: "):
        Budget(usd=1, reserve=1, clock=lambda: now).before(start())


@pytest.mark.parametrize("usd", ["0.1", 0.1, Decimal("0.1")])
def test_money_is_read_at_the_door_as_it_was_written(usd):
    assert Budget(usd).limit == Decimal("0.1")


# Copies, threads and the garbage collector


def test_a_copy_is_the_budget_itself_and_there_is_no_pickle():
    budget = Budget(usd=1)
    assert copy.copy(budget) is copy.deepcopy(budget) is copy.deepcopy([budget])[0] is budget
    with pytest.raises(TypeError, match="ledger="):
        pickle.dumps(budget)


def test_two_of_one_name_share_nothing_in_memory():
    first, second = Budget(calls=1), Budget(calls=1)
    first.before(start(1))
    second.before(start(1))
    assert first.state().calls == second.state().calls == 1


def test_an_outcome_told_by_the_garbage_collector_does_not_wait_for_this_very_thread():
    """A stream that is dropped reports wherever the collector happens to run: here, under the budget's lock."""
    budget = Budget(calls=10)
    budget.before(start("dropped"))

    class Dropped:
        def __del__(self):
            budget.after(outcome("dropped"))

    class Collecting(dict):
        """In the middle of the counters: what is dropped there is reported there."""

        def get(self, *args):
            nonlocal dropped
            if dropped is not None:
                dropped = None
                gc.collect()
            return super().get(*args)

    dropped = Dropped()
    budget._counters._keys = Collecting(budget._counters._keys)
    done = threading.Thread(target=budget.before, args=[start("next")], daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert dropped is None
    state = budget.state()
    assert (state.spent, state.held, state.calls) == (1, 1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_holds_nothing_for_its_parents_calls_and_waits_for_no_lock_of_theirs():
    budget = Budget(calls=1)
    budget.before(start("of the parent"))
    with budget._settling, budget._counters._lock:
        child = os.fork()
        if child == 0:
            budget.after(outcome("of the parent"))
            state = budget.state()
            budget.before(start("of the child"))
            os._exit(0 if (state.held, state.spent) == (0, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert budget.state().held == 1


def test_what_it_is_can_be_read():
    assert repr(Budget(usd="1.50", per="user")) == "Budget(usd='1.5', name='budget', per='user')"
    assert repr(Budget(calls=3, name="agent")) == "Budget(calls=3, name='agent')"
