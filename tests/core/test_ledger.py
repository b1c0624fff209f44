"""Exact sums over calls, whatever their order; unknown is never zero; nothing is counted twice."""

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import Attempt, CallInfo, Entry, Ledger, Outcome, Totals, Usage

IDS = itertools.count()


def entry(cost=None, **fields):
    fields = {"call_id": f"call_{next(IDS)}", "model": "gpt-4o-mini"} | fields
    return Entry(cost=None if cost is None else Decimal(str(cost)), **fields)


def ledger_of(*entries):
    ledger = Ledger()
    for each in entries:
        assert ledger.add(each)
    return ledger


COSTS = st.none() | st.floats(0, 1e12, allow_subnormal=True).map(lambda x: Decimal(repr(x)))
ENTRIES = st.lists(
    st.builds(
        entry,
        COSTS,
        model=st.sampled_from(["gpt-4o", "gpt-4o-mini"]),
        endpoint=st.sampled_from(["chat.completions", "router", "router.decide"]),
        status=st.sampled_from(["ok", "failed", "aborted"]),
        prompt_tokens=st.integers(0, 10**6),
        tags=st.dictionaries(st.just("user"), st.sampled_from("ab")),
    ),
    max_size=12,
)


# Sums


@given(ENTRIES, st.randoms(use_true_random=False))
def test_totals_do_not_depend_on_the_order(entries, random):
    shuffled = random.sample(entries, len(entries))
    assert ledger_of(*entries).total == ledger_of(*shuffled).total
    assert ledger_of(*entries).by_tag("user") == ledger_of(*shuffled).by_tag("user")


@given(ENTRIES)
def test_every_division_adds_up_to_the_whole(entries):
    ledger = ledger_of(*entries)
    for parts in (ledger.by_model, ledger.by_provider, ledger.by_tag("user")):
        assert sum(part.calls for part in parts.values()) == ledger.total.calls
        assert sum(part.unpriced for part in parts.values()) == ledger.unpriced
        with localcontext(Context(prec=999)):
            assert sum(part.cost for part in parts.values()) == ledger.total_cost


def test_no_digit_is_rounded_away():
    costs = ["1e22", "0.000045", "5e-324", "1.7976931348623157e+308"]
    with localcontext(Context(prec=1_200)):
        exact = sum(map(Decimal, costs))
    assert ledger_of(*map(entry, costs)).total_cost == exact
    assert ledger_of(*[entry("0.1")] * 1, *map(entry, ["0.1"] * 9)).total_cost == Decimal("1.0")


def test_the_callers_own_decimal_context_does_not_reach_the_sums():
    with localcontext(Context(prec=2)):
        assert ledger_of(entry("0.123456"), entry("100")).total_cost == Decimal("100.123456")


def test_threads_lose_nothing_and_double_nothing():
    ledger, entries = Ledger(), [entry("0.000001", tags={"user": "a"}) for _ in range(4_000)]
    with ThreadPoolExecutor(16) as threads:
        added = list(threads.map(ledger.add, entries + list(map(replace, entries))))
    assert sum(added) == len(ledger) == 4_000
    assert ledger.total_cost == Decimal("0.004")


def test_it_can_be_read_while_others_write():
    ledger = Ledger()
    with ThreadPoolExecutor(4) as threads:
        writing = threads.map(ledger.add, [entry("1") for _ in range(3_000)])
        seen = [ledger.total for _ in range(50)]
        list(writing)
    assert all(total.cost == total.calls for total in seen)
    assert [total.calls for total in seen] == sorted(total.calls for total in seen)


# Unknown


def test_a_sum_with_an_unknown_cost_is_a_lower_bound_and_says_so():
    ledger = ledger_of(entry("0.25"), entry(None), entry("0"))
    assert (ledger.total_cost, ledger.unpriced) == (Decimal("0.25"), 1)
    assert ledger.total.unpriced == 1


@pytest.mark.parametrize(
    ("fields", "unpriced"),
    [
        ({}, True),
        ({"status": "aborted"}, True),
        ({"status": "failed"}, False),
        ({"status": "failed", "attempts": [Attempt("m", 503, "APIStatusError", 0.1)]}, False),
        ({"status": "failed", "attempts": [Attempt("m", None, "APITimeoutError", 0.1)]}, True),
        ({"endpoint": "router.decide"}, False),
        ({"saved": Decimal("0.1")}, False),
    ],
    ids=str,
)
def test_what_has_no_cost_is_unpriced_only_if_it_was_an_answer(fields, unpriced):
    assert entry(None, **fields).unpriced is unpriced
    assert not entry("0.0", **fields).unpriced


def test_an_empty_ledger_is_zero_and_not_unknown():
    assert (Ledger().total, Ledger().total_cost, len(Ledger())) == (Totals(), Decimal(0), 0)
    assert Ledger().by_tag("user") == {}


# Entries


def outcome(**fields):
    call = CallInfo(call_id="call_1", requested_model="router", latency_ms=12.5, ttft_ms=3.5)
    return Outcome(
        **{"call": call, "endpoint": "router", "status": "ok", "model": "gpt-4o"} | fields
    )


def test_an_outcome_becomes_one_entry():
    ledger = Ledger()
    ledger.after(
        outcome(
            provider="openai",
            usage=Usage(prompt_tokens=10, completion_tokens=20, total_cost_usd=0.000045),
            tags={"user": "u1"},
        )
    )
    (found,) = ledger
    assert (found.call_id, found.model, found.requested_model) == ("call_1", "gpt-4o", "router")
    assert (found.endpoint, found.status, found.provider) == ("router", "ok", "openai")
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (10, 20, 30)
    assert (found.cost, found.tags) == (Decimal("0.000045"), {"user": "u1"})
    assert (found.latency_ms, found.ttft_ms) == (12.5, 3.5)


def test_an_outcome_without_usage_is_unpriced():
    ledger = Ledger()
    ledger.after(outcome(usage=None))
    assert (ledger.unpriced, ledger.total_tokens) == (1, 0)


def test_a_call_is_counted_once_however_many_report_it():
    ledger = Ledger()
    for _ in range(3):
        ledger.after(outcome(usage=Usage(total_cost_usd=0.5)))
    assert (len(ledger), ledger.total_cost) == (1, Decimal("0.5"))
    assert ledger.add(entry("9", call_id="call_1")) is False


def test_a_decision_alone_is_in_the_books_but_is_no_call():
    ledger = ledger_of(entry("0.5"), entry("0.001", endpoint="router.decide"))
    assert (ledger.total.calls, len(ledger), ledger.total_cost) == (1, 2, Decimal("0.501"))


def test_what_a_cache_spared_is_added_up_apart():
    ledger = ledger_of(entry("0.5"), entry(None, saved=Decimal("0.25")))
    assert (ledger.total.cost, ledger.total.saved) == (Decimal("0.5"), Decimal("0.25"))


# Divisions


def test_it_divides_by_model_provider_tag_or_anything_else():
    ledger = ledger_of(
        entry("1", model="a", provider="x", tags={"user": "u1"}),
        entry("2", model="b", provider="x", tags={"user": "u1", "feature": "search"}),
        entry("4", model="b", provider=None),
    )

    def costs(parts):
        return {name: int(totals.cost) for name, totals in parts.items()}

    assert costs(ledger.by_model) == {"a": 1, "b": 6}
    assert costs(ledger.by_provider) == {"x": 3, None: 4}
    assert costs(ledger.by_tag("user")) == {"u1": 3, None: 4}
    assert costs(ledger.by_tag("feature")) == {"search": 2, None: 5}
    assert costs(ledger.by(lambda e: e.cost > 1)) == {False: 1, True: 6}


def test_entries_are_values_that_can_be_stored():
    one = entry("0.5", tags={"user": "u1"})
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_call_that_is_there_can_be_labelled():
    ledger = Ledger()
    ledger.add(Entry("call_1", "gpt-4o", cost=Decimal("0.1"), labels={"a": 1}))
    ledger.label("call_1", {"b": 2})
    ledger.label("call_2", {"b": 2})
    (entry,) = ledger
    assert (entry.labels, entry.cost) == ({"a": 1, "b": 2}, Decimal("0.1"))
