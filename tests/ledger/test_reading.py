"""A stored ledger reads as one in memory does, over all that every process wrote."""

import math
import pickle
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lunar_core import Attempt, ConfigurationError, Entry, Ledger, Totals
from lunar_core.cost.ledger import Estimate
from tests.ledger.support import USD, entry, outcome

MARCH = datetime(2026, 3, 1, 10, 13, 20, tzinfo=timezone.utc)  # a Sunday

TEXTS = st.text(max_size=5) | st.sampled_from(
    ["a", "b", "openai/a", "x\0y", "\ud800", "ü", "\U0001f600"]
)
ENTRIES = st.lists(
    st.builds(
        Entry,
        call_id=st.uuids().map(str),
        model=TEXTS,
        provider=st.none() | TEXTS,
        endpoint=st.sampled_from(["chat.completions", "router", "router.decide", "cache"]),
        status=st.sampled_from(["ok", "failed", "aborted"]),
        prompt_tokens=st.integers(0, 10**6),
        cost=st.none() | st.floats(0, 1e12, allow_subnormal=True),
        saved=st.none() | st.decimals(0, 1, places=7),
        tags=st.dictionaries(st.sampled_from(["user", "a b", '"q"', "$.x"]), TEXTS, max_size=3),
        labels=st.dictionaries(
            st.sampled_from(["node", "n"]),
            TEXTS | st.integers() | st.booleans() | st.lists(TEXTS, max_size=2),
        ),
        at=st.floats(0, 4e9),
    ),
    max_size=8,
)


def plain(text):
    """As a database takes it."""
    return (
        None
        if text is None
        else "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    )


def plain_groups(groups):
    return {tuple(map(plain, key)): totals for key, totals in groups.items()}


@given(ENTRIES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_look_shows_what_a_ledger_in_memory_shows(tmp_path_factory, entries):
    memory = Ledger()
    with Ledger.open(tmp_path_factory.mktemp("store") / "costs.db", flush_seconds=0.005) as stored:
        for each in entries:
            assert memory.add(each) is stored.add(each) is True
        assert stored.total == memory.total
        assert len(stored) == len(memory)
        assert [each.call_id for each in stored] == [each.call_id for each in memory]
        assert [each.cost for each in stored] == [each.cost for each in memory]
        for names in (
            ["model"],
            ["provider", "status"],
            ["tag:user"],
            ["tag:$.x"],
            ['tag:"q"'],
            ["label:node"],
        ):
            assert stored.group(*names) == plain_groups(memory.group(*names))
        for names in (["hour"], ["day", "endpoint"], ["week"], ["month", "model"]):
            assert stored.group(*names) == plain_groups(memory.group(*names))
        for chosen in (
            {"since": 2e9},
            {"until": 2e9},
            {"model": "a"},
            {"tags": {"user": None}},
            {"status": "ok"},
        ):
            assert stored.where(**chosen).total == memory.where(**chosen).total


def test_an_entry_comes_back_as_it_was(ledger):
    whole = Entry(
        call_id="call_1",
        model="openai/gpt-4o",
        endpoint="router",
        requested_model="router",
        provider="openai",
        status="failed",
        prompt_tokens=1,
        completion_tokens=2,
        total_tokens=3,
        cost=Decimal("1E-7"),
        saved=Decimal("0.10"),
        tags={"user": "u1"},
        labels={"tags": ["a"], "metadata": {"n": 1}},
        attempts=(
            Attempt("m", None, "APITimeoutError", 0.5, "req_1"),
            Attempt("m", None, "APIConnectionError", 0.1, was_sent=False),
        ),
        latency_ms=1.5,
        ttft_ms=0.25,
        at=1772360000.125,
        cached_tokens=1,
        reasoning_tokens=0,
        input_cost=Decimal("0.1"),
        output_cost=Decimal("1e22"),
        cache_input_cost=Decimal("5e-324"),
        routing={"selected_model": "gpt-4o", "expected_error": 0.25},
        candidates=("a", "b"),
        cost_weight=20.0,
        streamed=True,
        error="APITimeoutError",
        estimate=Estimate(Decimal("0.5"), 1, 2, tokens_estimated=True, source="service"),
    )
    ledger.add(whole)
    assert list(ledger) == [whole]
    assert ledger.get("call_1") == whole
    assert [attempt.may_be_billed for attempt in next(iter(ledger)).attempts] == [True, False]


def test_outcomes_are_read_at_once_before_they_are_written(opened):
    ledger = opened(flush_seconds=3600)
    ledger.after(outcome("call_1"))
    ledger.after(outcome("call_1"))
    assert (len(ledger), ledger.total_cost, ledger.get("call_1").cost) == (1, USD, USD)


def test_another_process_own_entries_are_read_in_the_order_in_which_they_were_written(opened):
    one, other = opened(), opened()
    for number in range(6):
        ledger = (one, other)[number % 2]
        assert ledger.add(entry(1, call_id=f"call_{number}"))
        ledger.flush()
    assert [each.call_id for each in one] == [f"call_{number}" for number in range(6)]
    assert one.total == other.total == Totals(calls=6, cost=Decimal(6))


def test_a_call_that_any_process_has_recorded_is_not_added_again(opened):
    one, other = opened(), opened()
    assert one.add(entry(1, call_id="call_1"))
    one.flush()
    assert not other.add(entry(2, call_id="call_1"))
    assert not one.add(entry(2, call_id="call_1"))
    other.after(outcome("call_1", cost=9.0))
    assert other.total_cost == one.total_cost == 1


def test_a_long_id_of_a_call_is_told_apart_by_its_end(ledger):
    assert ledger.add(entry(1, call_id="x" * 5_000 + "a"))
    assert ledger.add(entry(1, call_id="x" * 5_000 + "b"))
    assert not ledger.add(entry(1, call_id="x" * 5_000 + "b"))
    assert len(ledger) == 2


def test_labels_are_added_before_the_write_after_it_and_to_another_process_own(opened):
    ledger, other = opened(flush_seconds=3600), opened()
    ledger.after(outcome("call_1"))
    ledger.label("call_1", {"a": 1})
    assert ledger.get("call_1").labels == {"a": 1}
    ledger.flush()
    ledger.label("call_1", {"b": [2]})
    other.label("call_1", {"c": "x"})
    other.flush()
    other.label("no-such-call", {"d": 1})
    ledger.flush()
    assert next(iter(other)).labels == next(iter(ledger)).labels == {"a": 1, "b": [2], "c": "x"}
    assert ledger.group("label:a", "label:c") == {("1", "x"): ledger.total}


@pytest.mark.parametrize("kind", ["memory", "stored"])
def test_where_and_group_say_what_they_mean(kind, opened):
    ledger = Ledger() if kind == "memory" else opened()
    at = MARCH.timestamp()
    ledger.add(entry(1, model="openai/gpt-4o", provider="openai", tags={"user": "u1"}, at=at))
    ledger.add(entry(2, model="gpt-4o", requested_model="router", status="failed", at=at + 86_400))
    ledger.add(entry(4, model="o3", endpoint="router", labels={"node": "x"}, at=at + 31 * 86_400))

    def costs(*names):
        return {key: int(totals.cost) for key, totals in ledger.group(*names).items()}

    assert costs("model") == {("gpt-4o",): 3, ("o3",): 4}
    assert costs("requested_model") == {("",): 5, ("router",): 2}
    assert costs("provider") == {("openai",): 1, (None,): 6}
    assert costs("endpoint", "status") == {
        ("chat.completions", "ok"): 1,
        ("chat.completions", "failed"): 2,
        ("router", "ok"): 4,
    }
    assert costs("hour") == {("2026-03-01T10",): 1, ("2026-03-02T10",): 2, ("2026-04-01T10",): 4}
    assert costs("day") == {("2026-03-01",): 1, ("2026-03-02",): 2, ("2026-04-01",): 4}
    assert costs("week") == {("2026-02-23",): 1, ("2026-03-02",): 2, ("2026-03-30",): 4}
    assert costs("month") == {("2026-03",): 3, ("2026-04",): 4}
    assert costs("tag:user", "label:node") == {("u1", None): 1, (None, None): 2, (None, "x"): 4}
    assert {name: int(t.cost) for name, t in ledger.by_model.items()} == {"gpt-4o": 3, "o3": 4}
    assert ledger.where(since=MARCH).total_cost == 7
    assert ledger.where(since=at, until=at + 86_400).total_cost == 1
    assert ledger.where(since=timedelta(seconds=1)).total_cost == 0
    assert ledger.where(model="azure/gpt-4o").total_cost == 3
    assert ledger.where(status="failed").where(since=MARCH).total_cost == 2
    assert ledger.where(status="failed").where(status="ok").total == Totals()
    assert ledger.where(since=at).where(since=at + 1).total_cost == 6
    assert ledger.where(tags={"user": "u1"}).by_tag("user")["u1"].calls == 1
    view = ledger.where(endpoint="router")
    assert (len(view), view.total_tokens, view.unpriced, view.by_provider[None].calls) == (
        1,
        0,
        0,
        1,
    )
    assert view.by(lambda each: each.model) == {"o3": view.total}
    assert [each.model for each in view] == ["o3"]
    assert not hasattr(view, "add")
    ledger.add(entry(8, endpoint="router"))
    assert view.total_cost == 12


@pytest.mark.parametrize("kind", ["memory", "stored"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", datetime(2026, 3, 1)),  # noqa: DTZ001  # that is what is refused
        ("until", "2026-03-01"),
        ("since", math.inf),
        ("until", 10**400),
        ("until", True),
        ("tags", ["user"]),
        ("tags", {1: "x"}),
        ("model", 3),
        ("endpoint", "chats"),
        ("status", "fine"),
        ("status", ["ok"]),
    ],
)
def test_where_refuses_what_cannot_work(kind, name, value, opened):
    ledger = Ledger() if kind == "memory" else opened()
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        ledger.where(**{name: value})


@pytest.mark.parametrize(
    "names", [(), ("models",), ("tag:",), ("label:",), (None,), ("model", "year")]
)
def test_group_refuses_what_entries_cannot_be_grouped_by(names, ledger):
    for each in (Ledger(), ledger, ledger.where(status="ok")):
        with pytest.raises(ConfigurationError, match=r"^group: "):
            each.group(*names)


def test_a_ledger_is_pickled_as_its_address(opened):
    ledger = opened(flush_seconds=0.5)
    ledger.add(entry(1))
    ledger.flush()
    with pickle.loads(pickle.dumps(ledger)) as copy:
        assert copy.total == ledger.total
        copy.add(entry(2))
    assert ledger.total_cost == 3


def test_no_digit_is_rounded_away(ledger):
    costs = list(map(Decimal, ("1e22", "0.000045", "5e-324")))
    for cost in costs:
        ledger.add(entry(cost))
    with localcontext(Context(prec=999)):
        assert ledger.total_cost == sum(costs)
        assert ledger.group("model") == {("gpt-4o-mini",): ledger.total}


@pytest.mark.parametrize(
    "odd", ["a\0b", "\ud800", '"', "'; DROP TABLE lunar_entries; --", "%s", ":name", "?"]
)
def test_whatever_text_is_asked_for_is_text(odd, ledger):
    ledger.add(entry(1, model=odd, tags={odd: odd}, labels={odd: 1}))
    ledger.add(entry(2))
    for view in (ledger.where(model=odd), ledger.where(tags={odd: odd})):
        assert view.total_cost == 1
    assert ledger.group(f"tag:{odd}", f"label:{odd}")[plain(odd), "1"].cost == 1
    assert ledger.by_tag(odd)[None].cost == ledger.where(tags={odd: None}).total_cost == 2


def test_totals_count_estimates_apart_from_what_was_billed(ledger):
    guess = Estimate(Decimal("0.25"), 10, 20, tokens_estimated=False, source="service")
    for each in (
        entry(1),
        entry(None, estimate=guess),
        entry(None),
        entry(None, endpoint="router.decide"),
    ):
        ledger.add(each)
    total = ledger.total
    assert (total.calls, total.cost, total.unpriced) == (3, 1, 2)
    assert (total.estimated, total.unknown) == (Decimal("0.25"), 1)
