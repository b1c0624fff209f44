"""What both frameworks' cost handlers show is what their ledger holds."""

from decimal import Decimal

from lunar_core import Entry, Ledger
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
    assert handler.total_tokens == 7
    assert handler.unpriced == 1
    assert handler.by_model["gpt-4o"].calls == handler.by_provider["openai"].calls == 1
    assert handler.by_tag("user")["u1"].cost == Decimal("0.5")
