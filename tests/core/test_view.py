"""What both frameworks' cost handlers show is what their ledger holds; ledgers and decisions show themselves."""

import io
from decimal import Decimal

from rich.console import Console

from lunar_core import Entry, Ledger, RoutingDecision
from lunar_core.cost.view import CostView


class Handler(CostView):
    """A handler as the frameworks' packages have them."""

    def __init__(self):
        self.ledger = Ledger()


def test_a_handlers_sums_are_those_of_its_ledger():
    handler = Handler()
    tags = {"user": "u1"}
    handler.ledger.add(
        Entry("a", "gpt-4o", provider="openai", cost=Decimal("0.5"), total_tokens=7, tags=tags)
    )
    handler.ledger.add(Entry("b", "mistral-small-latest"))
    assert handler.total_cost == Decimal("0.5")
    assert handler.calls == 2
    assert handler.total_tokens == 7
    assert handler.unpriced == 1
    assert handler.by_model["gpt-4o"].calls == handler.by_provider["openai"].calls == 1
    assert handler.by_tag("user")["u1"].cost == Decimal("0.5")


# On a terminal, in a notebook, in a debugger


def on_rich(value):
    """What rich prints of it."""
    console = Console(file=io.StringIO(), width=100)
    console.print(value)
    return console.file.getvalue()


def handler_of(*entries):
    handler = Handler()
    for entry in entries:
        handler.ledger.add(entry)
    return handler


def test_a_handler_and_its_ledger_show_the_same():
    handler = handler_of(Entry("a", "gpt-4o", cost="0.000045"), Entry("b", "gpt-4o-mini"))
    assert repr(handler) == "Handler(calls=2, total_cost=0.000045, unpriced=1)"
    assert on_rich(handler) == on_rich(handler.ledger)
    assert "at least $0.000045, 1 unknown" in on_rich(handler)
    assert "gpt-4o-mini" in on_rich(handler)
    assert "at least $0.000045, 1 unknown" in handler._repr_html_()
    assert "at least $0.000045, 1 unknown" in handler.ledger._repr_html_()


def test_a_part_of_a_ledger_shows_itself_too():
    ledger = handler_of(Entry("a", "gpt-4o", cost="1"), Entry("b", "o3", cost="2")).ledger
    part = ledger.where(model="o3")
    assert "gpt-4o" not in on_rich(part)
    assert "gpt-4o" not in part._repr_html_()
    assert "$2" in on_rich(part)


def test_names_in_a_notebook_are_text_and_no_html():
    page = handler_of(Entry("a", "<script>alert(1)</script>", cost="1"))._repr_html_()
    assert "<script>alert" not in page


DECISION = RoutingDecision(
    selected_model="gpt-4o",
    selected_provider="openai",
    expected_error=0.25,
    cluster_id=0,
    reasoning="best of <b>6</b>\x1b[2J",
)


def test_a_decision_shows_what_the_router_said_and_nothing_that_it_did_not():
    words = (
        "model gpt-4o provider openai expected error 0.25 cluster 0 reasoning best of <b>6</b>[2J"
    )
    assert " ".join(on_rich(DECISION).split()) == words
    assert repr(DECISION).startswith("RoutingDecision(selected_model='gpt-4o', ")


def test_in_a_notebook_a_decision_is_a_table_of_text():
    page = DECISION._repr_html_()
    assert page.startswith("<table><tr><th")
    assert 'white-space: pre-line">best of &lt;b&gt;6&lt;/b&gt;[2J</td>' in page
    assert "cost-adjusted score" not in page
