"""A stored ledger's report is that of the same entries in memory, to the last digit, with its budgets."""

import random
from decimal import Decimal

import pytest

from lunar_core import Budget, BudgetExceededError, CallStart, Ledger, Model, Prices
from lunar_core.cost.ledger import Estimate
from tests.ledger.support import entry

PRICES = Prices.of([Model(id="gpt-4o", input_per_million=2.5, output_per_million=10)])


def some_entries(count=300):
    """Entries of every kind, always the same ones."""
    dice = random.Random(7)  # noqa: S311  # dice
    estimates = {
        is_priced: Estimate(Decimal("0.01"), 1, 1, tokens_estimated=False, source=source)
        for is_priced, source in ((False, "service"), (True, "of no use beside a cost"))
    }
    for number in range(count):
        is_priced, is_routed = dice.random() < 0.8, dice.random() < 0.5
        yield entry(
            f"0.{dice.randrange(10**20):020}" if is_priced else None,
            call_id=f"report_{number}",
            model=dice.choice(["gpt-4o", "openai/gpt-4o-mini"]),
            endpoint=dice.choice(["chat.completions", "router", "router.decide", "cache"]),
            requested_model=dice.choice(["gpt-4o", "router"]),
            routing={"selected_model": "x"} if is_routed else None,
            candidates=dice.choice([(), ("gpt-4o",), ("gpt-4o", "nobody-knows")]),
            status=dice.choice(["ok", "ok", "ok", "failed", "aborted"]),
            error=dice.choice([None, "RateLimitError", "APITimeoutError"]),
            prompt_tokens=dice.randrange(5_000),
            completion_tokens=dice.randrange(500),
            cached_tokens=dice.choice([None, 0, 10_000]),
            estimate=dice.choice([None, estimates[is_priced]]),
            tags={"user": dice.choice(["u1", "ü2"])} if dice.random() < 0.8 else {},
            at=1_790_812_800 + dice.randrange(10**7),
            latency_ms=dice.choice([None, 0.5, 1.5, 2.5, 1e300, dice.random() * 10_000]),
            ttft_ms=dice.choice([None, dice.random() * 100]),
        )


@pytest.fixture
def both(opened):
    """The same entries in a store and in memory."""
    stored, memory = opened(prices=PRICES), Ledger(prices=PRICES)
    for each in some_entries():
        stored.add(each)
        memory.add(each)
    stored.flush()
    return stored, memory


@pytest.mark.parametrize("by", [["model"], ["tag:user", "month"], ["endpoint", "status", "day"]])
@pytest.mark.parametrize("part", [{}, {"model": "gpt-4o"}, {"tags": {"user": None}, "until": 0}])
def test_it_is_that_of_the_same_entries_in_memory(both, by, part):
    reports = [ledger.where(**part).report(by=by) for ledger in both]
    stored, memory = (report.figures for report in reports)
    assert reports[0].to_csv() == reports[1].to_csv()
    assert reports[0].to_json() == reports[1].to_json()
    assert reports[0].savings == reports[1].savings
    for name in ("latency", "first_token", "failures", "estimate_sources"):
        assert getattr(stored, name) == getattr(memory, name)
    assert {name: sums.totals() for name, sums in stored.hours.items()} == {
        name: sums.totals() for name, sums in memory.hours.items()
    }


def test_its_sums_are_the_ledgers(both):
    stored, _ = both
    report = stored.report(by=["model", "tag:user"])
    assert report.total == stored.total
    assert dict(report.rows) == stored.group("model", "tag:user")


def test_savings_are_those_of_the_same_entries_in_memory(both):
    stored, memory = both
    assert stored.savings() == memory.savings()
    assert stored.savings("gpt-4o") == memory.savings("gpt-4o")
    assert stored.savings().calls > 20
    assert stored.savings().left_out > 10


def test_what_cannot_be_written_yet_is_in_it(opened, monkeypatch):
    from lunar_core import LedgerError
    from lunar_core.cost.store import writer

    def fail(*_words):
        raise OSError("no space")

    ledger = opened(prices=PRICES)
    ledger.add(entry("0.1", endpoint="router", candidates=("gpt-4o",)))
    ledger.flush()
    monkeypatch.setattr(writer, "write_batch", fail)
    ledger.add(entry("0.2", endpoint="router", candidates=("gpt-4o",)))
    report = ledger.report()
    assert (report.total.calls, report.total.cost) == (2, Decimal("0.3"))
    assert report.savings.calls == ledger.savings().calls == 2
    monkeypatch.undo()
    try:
        ledger.flush()
    except LedgerError:  # the first attempt of all may have failed before
        ledger.flush()


def test_its_budgets_are_told_with_refusals_and_the_limit_last_used(opened):
    ledger = opened()
    budget = Budget(calls=2, name="per <user>", per="user", ledger=ledger)

    def call(number, user):
        start = CallStart(f"call_{number}", "chat.completions", "gpt-4o", {}, tags={"user": user})
        budget.before(start)

    for number, user in enumerate(["ada", "ada", "grace"]):
        call(number, user)
    for number in (4, 5):
        with pytest.raises(BudgetExceededError):
            call(number, "ada")
    report = ledger.report()
    found = [
        (each.name, each.per, each.key, each.limit, each.refused) for each in report.figures.budgets
    ]
    assert found == [("per <user>", "user", "ada", 2, 2), ("per <user>", "user", "grace", 2, 0)]
    page = report.to_html()
    assert "per &lt;user&gt;" in page
    assert "2 calls" in page


def test_of_a_budget_all_windows_are_added_up_and_the_limit_is_the_newest(opened):
    ledger, now = opened(), 1_790_812_800.0
    for limit in (2, 1):
        budget = Budget(
            calls=limit, name="b", window="hour", ledger=ledger, clock=lambda at=now: at
        )
        for number in range(limit):
            budget.before(CallStart(f"{now}_{number}", "chat.completions", "gpt-4o", {}))
        with pytest.raises(BudgetExceededError):
            budget.before(CallStart(f"{now}_more", "chat.completions", "gpt-4o", {}))
        now += 3_600
    (figures,) = ledger.report().figures.budgets
    assert (figures.limit, figures.refused, figures.window) == (1, 2, "hour")


def test_of_thousands_of_budgets_the_first_are_shown(opened):
    ledger = opened()
    budget = Budget(usd=1, name="b", per="user", ledger=ledger, reserve="0.25")
    for number in range(25):
        budget.before(
            CallStart(
                f"c{number}", "chat.completions", "gpt-4o", {}, tags={"user": f"u{number:02}"}
            )
        )
    report = ledger.report()
    assert (len(report.figures.budgets), report.figures.budget_count) == (20, 25)
    assert "5 others, which refused no more than these, are not shown." in report.to_html()


def test_a_ledger_in_memory_has_no_budgets_to_tell_of():
    assert Ledger().report().figures.budgets is None
