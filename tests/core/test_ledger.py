"""Exact sums over calls, whatever their order; unknown is never zero; nothing is counted twice."""

import gc
import itertools
import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import (
    APITimeoutError,
    Attempt,
    CallInfo,
    ConfigurationError,
    Entry,
    Ledger,
    Model,
    Outcome,
    Prices,
    RoutingDecision,
    Totals,
    Usage,
)
from lunar_core.cost.entries import entry_from_metadata
from lunar_core.cost.ledger import Estimate

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


def test_an_interrupt_keeps_no_call_out_of_the_books():
    reads = []

    def read_answer():  # for an estimate
        reads.append("read")
        if len(reads) == 1:
            raise KeyboardInterrupt

    ledger = Ledger(prices=Prices.of([Model(id="gpt-4o", input_per_million=1.0)]))
    with pytest.raises(KeyboardInterrupt):
        ledger.after(outcome(params={"prompt": "Hello!"}, read_answer=read_answer))
    assert len(ledger) == 1


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


@pytest.mark.parametrize(
    "wrong",
    [{"call_id": 7}, {"model": None}, {"tags": None}, {"labels": "x"}, {"estimate": 0.1}],
    ids=str,
)
def test_an_entry_that_no_sum_could_be_made_of_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"^{name}: expected"):
        entry(**wrong)


def test_a_call_that_is_there_can_be_labelled():
    ledger = Ledger()
    ledger.add(Entry("call_1", "gpt-4o", cost=Decimal("0.1"), labels={"a": 1}))
    ledger.label("call_1", {"b": 2})
    ledger.label("call_2", {"b": 2})
    (entry,) = ledger
    assert (entry.labels, entry.cost) == ({"a": 1, "b": 2}, Decimal("0.1"))


# What is kept, and what is added up


def test_older_entries_stay_in_the_totals_and_are_dropped_one_by_one():
    ledger = Ledger(keep=3)
    for number in range(5):
        ledger.add(entry(1, call_id=f"call_{number}", model=f"x/m{number % 2}", tags={"user": "u"}))
    assert [each.call_id for each in ledger] == ["call_2", "call_3", "call_4"]
    assert (len(ledger), ledger.dropped) == (3, 2)
    assert (ledger.total.calls, ledger.total_cost) == (5, 5)
    assert {name: totals.calls for name, totals in ledger.by_model.items()} == {"m0": 3, "m1": 2}
    assert ledger.by_tag("user")["u"].calls == ledger.by_tag("none")[None].calls == 5
    assert ledger.group("model")[("m0",)].calls == 2  # of those that are kept
    assert ledger.where(status="ok").total.calls == 3
    assert (ledger.get("call_0"), ledger.get("call_4").model) == (None, "x/m0")
    assert not ledger.add(entry(1, call_id="call_4"))
    assert ledger.add(entry(1, call_id="call_0"))  # once per call holds for the kept


def test_nobody_has_to_read_a_ledger_for_it_to_stay_small():
    ledger = Ledger(keep=10)
    for _ in range(5_000):
        ledger.add(entry(1))
    assert len(ledger._memory._kept) < 1_100


@pytest.mark.parametrize("keep", [-1, True, "10", None, 1.5])
def test_keep_is_a_count(keep):
    with pytest.raises(ConfigurationError, match=r"^keep: "):
        Ledger(keep=keep)


def test_a_look_takes_as_long_at_many_entries_as_at_few():
    def seconds(ledger):
        taken = []
        for _ in range(20):
            started = time.process_time()
            for _ in range(50):
                looks = (
                    ledger.total.calls,
                    ledger.total_cost,
                    ledger.by_model,
                    ledger.by_tag("user"),
                )
            assert all(looks)
            taken.append(time.process_time() - started)
        return min(taken)

    few, many = Ledger(), Ledger()
    for ledger, count in ((few, 10), (many, 20_000)):
        for number in range(count):
            ledger.add(entry(1, tags={"user": f"u{number % 5}"}))
        assert ledger.total.calls == count
    assert seconds(many) < 3 * seconds(few)


def test_the_division_by_a_tag_counts_those_without_it_exactly():
    ledger = ledger_of(entry("0.1", tags={"user": "a"}), entry("1e22"), entry("5e-324"))
    with localcontext(Context(prec=999)):
        assert ledger.by_tag("user")[None].cost == Decimal("1e22") + Decimal("5e-324")


def test_the_collector_may_report_from_inside_of_any_look():
    class Dropped:
        def __init__(self, number):
            self.number, self.cycle = number, self

        def __del__(self):
            ledger.after(outcome(call=CallInfo(call_id=f"dropped-{self.number}")))
            ledger.label(f"dropped-{self.number}", {"a": 1})

    ledger, threshold = Ledger(keep=100_000), gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for number in range(2_000):
            Dropped(number)
            ledger.add(entry(1))
            assert ledger.total.calls <= 2 * (number + 1)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert (len(ledger), ledger.total.calls, ledger.total_cost) == (4_000, 4_000, 2_000)


def test_a_ledger_in_memory_is_copied_whole():
    ledger = ledger_of(entry(1, tags={"user": "a"}), entry(2))
    copy = pickle.loads(pickle.dumps(ledger))
    assert (list(copy), copy.total, copy.by_tag("user")) == (
        list(ledger),
        ledger.total,
        ledger.by_tag("user"),
    )
    copy.after(outcome())
    assert (len(copy), len(ledger)) == (3, 2)


def test_it_says_what_it_holds():
    assert repr(ledger_of(entry("0.000045"))) == "Ledger(calls=1, total_cost=0.000045, unpriced=0)"
    assert repr(ledger_of().where(status="ok")) == "LedgerView(calls=0, total_cost=0, unpriced=0)"


def test_flush_and_close_are_there_in_memory_too():
    with Ledger() as ledger:
        ledger.add(entry(1))
        ledger.flush()
    assert (ledger.total_cost, ledger.lost, ledger.dropped) == (1, 0, 0)


def test_to_dict_is_plain_json_with_costs_as_strings():
    guess = Estimate(Decimal("1E-7"), 1, 2, tokens_estimated=True, source="service")
    one = entry(
        "1E-7",
        attempts=(Attempt("m", 503, "InternalServerError", 0.5),),
        labels={"tags": ("a", object())},
        candidates=("a", "b"),
        routing={"selected_model": "a"},
        estimate=guess,
    )
    told = json.loads(json.dumps(one.to_dict()))
    assert (told["cost"], told["saved"], told["estimate"]["cost"]) == (
        "0.0000001",
        None,
        "0.0000001",
    )
    assert told["labels"] == {"tags": ["a", "object"]}
    assert told["attempts"][0]["may_be_billed"] is False
    assert (told["candidates"], told["routing"]) == (["a", "b"], {"selected_model": "a"})
    assert set(told) == {each.name for each in fields(Entry)}
    totals = json.loads(json.dumps(ledger_of(one).total.to_dict()))
    assert (totals["cost"], totals["calls"], totals["estimated"]) == ("0.0000001", 1, "0")


def test_an_outcome_that_was_refused_is_no_entry():
    ledger = Ledger()
    ledger.after(outcome(status="refused"))
    assert (len(ledger), ledger.total) == (0, Totals())


def test_an_entry_holds_what_the_service_and_the_router_said():
    usage = Usage(
        prompt_tokens=10,
        completion_tokens=5,
        input_cost_usd=0.1,
        output_cost_usd=0.2,
        cache_input_cost_usd=0.05,
        prompt_tokens_details={"cached_tokens": 4},
        completion_tokens_details={"reasoning_tokens": 0},
    )
    route = RoutingDecision(selected_model="gpt-4o", expected_error=0.25)
    ledger = Ledger()
    ledger.after(
        outcome(
            usage=usage,
            routing=route,
            candidates=("a", "b"),
            cost_weight=20.0,
            streamed=True,
            error=APITimeoutError(),
        )
    )
    (found,) = ledger
    assert (found.cached_tokens, found.reasoning_tokens) == (4, 0)
    assert [found.input_cost, found.output_cost, found.cache_input_cost] == list(
        map(Decimal, ("0.1", "0.2", "0.05"))
    )
    assert found.routing == {"selected_model": "gpt-4o", "expected_error": 0.25}
    assert (found.candidates, found.cost_weight, found.streamed) == (("a", "b"), 20.0, True)
    assert (found.error, found.cost) == ("APITimeoutError", None)


# Made of what a framework keeps


def test_an_entry_is_made_of_what_a_framework_keeps_beside_an_answer():
    metadata = {
        "call_id": "call_1",
        "model_name": "gpt-4o",
        "requested_model": "router",
        "total_cost_usd": 4.5e-05,
        "input_cost_usd": 0.00001,
        "routing": {"selected_model": "gpt-4o", "selected_provider": "openai"},
        "latency_ms": 12.5,
    }
    usage = {"input_tokens": 10, "output_tokens": 20, "input_token_details": {"cache_read": 4}}
    made = entry_from_metadata(
        metadata, usage, call_id="run-1", endpoint="router", tags={"user": "u1"}
    )
    assert (made.call_id, made.model, made.requested_model, made.provider) == (
        "call_1",
        "gpt-4o",
        "router",
        "openai",
    )
    assert (made.cost, made.input_cost, made.output_cost) == (
        Decimal("0.000045"),
        Decimal("0.00001"),
        None,
    )
    assert (made.prompt_tokens, made.completion_tokens, made.total_tokens) == (10, 20, 30)
    assert (made.cached_tokens, made.reasoning_tokens, made.latency_ms) == (4, None, 12.5)
    assert made.routing == metadata["routing"]


@pytest.mark.parametrize(
    "odd", [None, "much", True, [], {}, -1, float("nan"), float("inf")], ids=repr
)
def test_what_has_the_wrong_form_is_unknown(odd):
    names = (
        "call_id",
        "model",
        "total_cost_usd",
        "prompt_tokens",
        "total_tokens",
        "latency_ms",
        "routing",
    )
    details = {"prompt_tokens_details": odd, "completion_tokens_details": {"reasoning_tokens": odd}}
    made = entry_from_metadata(
        {**dict.fromkeys(names, odd), **details}, call_id="run-1", requested_model="gpt-4o"
    )
    assert made.call_id == ("much" if odd == "much" else "run-1")
    assert (made.cost, made.prompt_tokens, made.reasoning_tokens) == (None, 0, None)
    assert entry_from_metadata({}, call_id="run-1", requested_model="m").model == "m"


def test_one_model_is_one_row_with_its_providers_name_or_without():
    ledger = ledger_of(
        entry(1, model="openai/gpt-4o"), entry(2, model="gpt-4o"), entry(4, model="azure/gpt-4o")
    )
    assert {name: int(totals.cost) for name, totals in ledger.by_model.items()} == {"gpt-4o": 7}
    assert [each.model for each in ledger] == ["openai/gpt-4o", "gpt-4o", "azure/gpt-4o"]
