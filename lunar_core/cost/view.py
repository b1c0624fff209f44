"""The properties that both frameworks' cost handlers share."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from lunar_core.cost.totals import Totals

if TYPE_CHECKING:
    from lunar_core.cost.ledger import Ledger


class CostView:
    """The totals of a ``ledger``. Costs are exact USD, as the service billed them."""

    if TYPE_CHECKING:  # pydantic, on which some handlers stand, would make it a field of its own
        ledger: Ledger

    @property
    def calls(self) -> int:
        """How many calls there were; a decision alone is none."""
        return self.ledger.total.calls

    @property
    def total_cost(self) -> Decimal:
        """USD of all calls with a known cost. ``unpriced`` counts the others."""
        return self.ledger.total_cost

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers together. An answer from a cache used none."""
        return self.ledger.total_tokens

    @property
    def unpriced(self) -> int:
        """How many answers, or parts of one, came without a stated cost."""
        return self.ledger.unpriced

    @property
    def by_model(self) -> dict[str, Totals]:
        """Totals by the model that answered."""
        return self.ledger.by_model

    @property
    def by_provider(self) -> dict[str | None, Totals]:
        """Totals by the provider that served the answer."""
        return self.ledger.by_provider

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """Totals by the value of one tag (``lunar_core.tags``); None for calls without it."""
        return self.ledger.by_tag(name)

    def __rich__(self) -> object:
        return self.ledger.__rich__()

    def _repr_html_(self) -> str | None:
        """For notebooks: the same as the ledger's."""
        return self.ledger._repr_html_()

    def __repr__(self) -> str:
        total = self.ledger.total
        return f"{type(self).__name__}(calls={total.calls}, total_cost={total.cost:f}, unpriced={total.unpriced})"
