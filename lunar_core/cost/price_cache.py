"""Prices for many calls at once: what reports compare routed answers with."""

from __future__ import annotations

from decimal import Decimal

from lunar_core.cost.amounts import EXACT
from lunar_core.cost.prices import Prices, PricesAtHand

_MANY = 10_000_000
"""More tokens than any step of a price list with steps."""


class PriceCache:
    """Prices that are looked up once for each model with a flat price per token, as nearly all have.

    A look-up in the bundled list takes 0.1 ms; a multiplication a thousandth of that. ``prices``: default the bundled
    ones, loaded at the first look-up.
    """

    def __init__(self, prices: Prices | None) -> None:
        self._at_hand = PricesAtHand(prices)
        self._rates: dict[str, tuple[Decimal, Decimal, Decimal] | None] = {}
        self._sources: set[str] = set()

    def cost(self, model: str, prompt: int, completion: int, cached: int) -> Decimal | None:
        """USD for so many tokens; None if a price is unknown."""
        cached = min(cached, prompt)
        if model not in self._rates:
            self._rates[model] = self._flat_rates(model)
        rates = self._rates[model]
        if rates is None:
            return self._ask(model, prompt, completion, cached)
        fresh, written, from_cache = rates
        cost = EXACT.add(
            EXACT.multiply(fresh, prompt - cached), EXACT.multiply(written, completion)
        )
        return EXACT.add(cost, EXACT.multiply(from_cache, cached)) if cached else cost

    def words(self) -> str:
        """The sources of the prices, in words."""
        prices = self._at_hand.value
        sources = sorted(self._sources) or (() if prices is None else prices.names)
        named = ["the service" if name == "service" else name for name in sources]
        return f"the prices of {', '.join(named)}" if named else "no known prices"

    def _flat_rates(self, model: str) -> tuple[Decimal, Decimal, Decimal] | None:
        """USD per token of prompt, answer and cache; None if they depend on the number of tokens."""
        rates = (
            self._ask(model, 1, 0, 0),
            self._ask(model, 0, 1, 0),
            self._ask(model, 1, 0, 1),
        )
        fresh, written, from_cache = rates
        if fresh is None or written is None or from_cache is None:
            return None
        for prompt_rate, cached in ((fresh, 0), (from_cache, _MANY)):
            many = EXACT.multiply(EXACT.add(prompt_rate, written), _MANY)
            if self._ask(model, _MANY, _MANY, cached) != many:
                return None
        return fresh, written, from_cache

    def _ask(self, model: str, prompt: int, completion: int, cached: int) -> Decimal | None:
        if not self._at_hand.are_found:
            self._at_hand.find()
        prices = self._at_hand.value
        estimate = None if prices is None else prices.estimate(model, prompt, completion, cached)
        if estimate is None:
            return None
        self._sources.add(estimate.source)
        return estimate.cost
