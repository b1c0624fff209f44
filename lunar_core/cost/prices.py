"""Prices of models, and estimates of what an answer without a stated cost may have cost."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timezone
from decimal import Decimal, localcontext
from typing import Any, Protocol

from lunar_core.checks import checked_count
from lunar_core.cost.amounts import EXACT
from lunar_core.cost.counting import counted_tokens
from lunar_core.cost.entries import Entry, Estimate, model_name
from lunar_core.errors import ConfigurationError
from lunar_core.extras import install_command
from lunar_core.observers import Outcome
from lunar_core.types.usage import exact_usd
from lunar_core.wire.catalogue import Model, ModelPrices

_PER_MILLION = Decimal("1e-6")


class _PriceSource(Protocol):
    """One price list. ``name``: the ``source`` of its Estimates."""

    @property
    def name(self) -> str: ...
    def cost(self, model: str, prompt: int, completion: int, cached: int, /) -> Decimal | None: ...


class Prices:
    """Prices of models. ``a | b`` looks a model up in ``a`` first, then in ``b``.

    >>> prices = Prices.of([Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6)])
    >>> prices.cost("openai/gpt-4o-mini", prompt_tokens=1000, completion_tokens=100)
    Decimal('0.00021000')
    """

    def __init__(self, *sources: _PriceSource) -> None:
        self._sources = sources

    @classmethod
    def of(cls, models: Sequence[Model]) -> Prices:
        """The service's own prices, from ``client.models.prices()``. Raises ConfigurationError for anything else."""
        if not isinstance(models, (list, tuple)) or not all(isinstance(m, Model) for m in models):
            raise ConfigurationError(
                "models: expected a list of Model, as client.models.prices() gives it"
            )
        return cls(_ServicePrices.read(models))

    @classmethod
    def bundled(cls) -> Prices:
        """The prices of the package genai-prices (extra ``prices``), without any request.

        Loading takes a second. Raises ConfigurationError if the package is not installed.
        """
        return cls(_load_bundled())

    @staticmethod
    def bundled_date() -> date | None:
        """The day of the newest bundled price that is valid today: the list is at most that old.

        None if the list states no days. Raises ConfigurationError if the package is not installed.
        """
        _genai_prices()
        try:
            snapshot = importlib.import_module("genai_prices.data_snapshot").get_snapshot()
            variants = [
                variant
                for provider in snapshot.providers
                for model in provider.models
                for prices in (model.prices, getattr(model, "price_variants", None))
                if isinstance(prices, list)
                for variant in prices
            ]
            starts = [getattr(variant.constraint, "start_date", None) for variant in variants]
        except (ImportError, AttributeError):  # another version of the package
            return None
        today = datetime.now(timezone.utc).date()
        return max((day for day in starts if isinstance(day, date) and day <= today), default=None)

    def cost(
        self, model: str, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
    ) -> Decimal | None:
        """The cost of so many tokens in USD; None if a price that it needs is unknown.

        ``cached_tokens``: those of the prompt that the provider had in its cache. ``provider/model`` is looked up at
        that provider first, then as ``model``. Raises ConfigurationError for a value that is no count.
        """
        priced = self._find_cost(model, prompt_tokens, completion_tokens, cached_tokens)
        return None if priced is None else priced[0]

    def _find_cost(
        self, model: str, prompt: int, completion: int, cached: int
    ) -> tuple[Decimal, str] | None:
        """The cost, and the name of the list that it comes from."""
        if not isinstance(model, str):
            raise ConfigurationError("model: expected text")
        checked_count(prompt, "prompt_tokens")
        checked_count(completion, "completion_tokens")
        if checked_count(cached, "cached_tokens") > prompt:
            raise ConfigurationError(
                "cached_tokens: more than prompt_tokens, which they are part of"
            )
        for source in self._sources:
            cost = source.cost(model, prompt, completion, cached)
            if cost is not None:
                return cost, source.name
        return None

    def estimate(
        self,
        model: str,
        prompt: int,
        completion: int,
        cached: int = 0,
        *,
        tokens_estimated: bool = False,
    ) -> Estimate | None:
        """The same as an Estimate, with the source of the prices; None if there is no price."""
        priced = self._find_cost(model, prompt, completion, min(cached, prompt))
        if priced is None:
            return None
        return Estimate(priced[0], prompt, completion, tokens_estimated, priced[1])

    def __or__(self, other: Prices) -> Prices:
        if not isinstance(other, Prices):
            return NotImplemented
        return Prices(*self._sources, *other._sources)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the price lists, in the order of look-up."""
        return tuple(source.name for source in self._sources)

    def __repr__(self) -> str:
        return f"Prices({' | '.join(self.names)})"


def checked_prices(value: object) -> Prices | None:
    """``value``, if it is Prices or None. Raises ConfigurationError."""
    if value is not None and not isinstance(value, Prices):
        raise ConfigurationError("prices: expected Prices or None")
    return value


class PricesAtHand:
    """The given prices, else the bundled ones if they are installed, loaded when they are first needed.

    ``value`` is None until then, and if there are none.
    """

    def __init__(self, prices: Prices | None, *, are_needed: bool = True) -> None:
        self.value = prices
        self.are_found = prices is not None or not are_needed

    def find(self) -> None:
        """Load the bundled prices, which takes a second."""
        with contextlib.suppress(ConfigurationError):  # not installed
            self.value = Prices.bundled()
        self.are_found = True


def with_estimate(entry: Entry, outcome: Outcome, prices: Prices | None) -> Entry:
    """``entry`` with an estimate, if its answer has no stated cost and ``prices`` has its model."""
    if prices is None or not entry.unpriced:
        return entry
    prompt, completion, counted = entry.prompt_tokens, entry.completion_tokens, False
    if (
        outcome.usage is None
        or outcome.usage.prompt_tokens is None
        or outcome.usage.completion_tokens is None
    ):
        counts = counted_tokens(outcome)
        if counts is None:
            return entry
        prompt, completion, counted = *counts, True
    model = (
        entry.model
        if entry.provider is None or "/" in entry.model
        else f"{entry.provider}/{entry.model}"
    )
    estimate = prices.estimate(
        model, prompt, completion, entry.cached_tokens or 0, tokens_estimated=counted
    )
    return entry if estimate is None else replace(entry, estimate=estimate)


@dataclass(frozen=True)
class _Rates:
    """USD per million tokens."""

    input: Decimal | None
    output: Decimal | None
    cached: Decimal | None

    @classmethod
    def read(cls, listed: Model | ModelPrices) -> _Rates:
        return cls(
            exact_usd(listed.input_per_million),
            exact_usd(listed.output_per_million),
            exact_usd(listed.cache_input_per_million),
        )

    def cost(self, prompt: int, completion: int, cached: int) -> Decimal | None:
        parts = (
            (prompt - cached, self.input),
            (cached, self.cached if self.cached is not None else self.input),
            (completion, self.output),
        )
        total = Decimal(0)
        for tokens, rate in parts:
            if tokens and rate is None:
                return None
            if tokens and rate is not None:
                total = EXACT.add(total, EXACT.multiply(rate, tokens))
        is_priced = self.input is not None or self.output is not None
        return EXACT.multiply(total, _PER_MILLION) if is_priced else None


@dataclass(frozen=True)
class _ServicePrices:
    """The service's own prices, by ``provider/model`` and by ``model``."""

    rates: Mapping[str, _Rates]
    name: str = "service"

    @classmethod
    def read(cls, models: Iterable[Model]) -> _ServicePrices:
        rates: dict[str, _Rates] = {}
        for model in models:
            rates[model.id] = _Rates.read(model)
            for provider in model.providers or ():
                if provider.id is not None:
                    rates[f"{provider.id}/{model.id}"] = _Rates.read(provider)
        return cls(rates)

    def cost(self, model: str, prompt: int, completion: int, cached: int) -> Decimal | None:
        for name in (model, model_name(model)):
            rates = self.rates.get(name)
            cost = None if rates is None else rates.cost(prompt, completion, cached)
            if cost is not None:
                return cost
        return None


@dataclass(frozen=True)
class _BundledPrices:
    """The prices of genai-prices, in the installed version."""

    name: str

    def cost(self, model: str, prompt: int, completion: int, cached: int) -> Decimal | None:
        provider, slash, short = model.partition("/")
        places = [(short, provider), (short, None)] if slash else []
        for name, provider_id in [*places, (model, None)]:
            cost = _bundled_cost(name, provider_id, prompt, completion, cached)
            if cost is not None:
                return cost
        return None


def _load_bundled() -> _BundledPrices:
    return _BundledPrices(f"genai-prices {_genai_prices().__version__}")


def _genai_prices() -> Any:  # its types moved between the versions that the extra allows
    try:
        return importlib.import_module("genai_prices")
    except ImportError:
        raise ConfigurationError(
            f"prices: the bundled ones need genai-prices: {install_command('prices')}"
        ) from None


def _bundled_cost(
    model: str, provider: str | None, prompt: int, completion: int, cached: int
) -> Decimal | None:
    package = _genai_prices()
    try:
        with localcontext(EXACT):
            usage = package.Usage(
                input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached
            )
            price = package.calc_price(usage, model, provider_id=provider)
            rates = price.model_price
            if (
                cached and rates.cache_read_mtok is None
            ):  # then cached tokens cost what the others do
                usage = package.Usage(input_tokens=prompt, output_tokens=completion)
                price = package.calc_price(usage, model, provider_id=provider)
    except (LookupError, ValueError):
        return None  # no such model, or no such provider
    if (prompt and rates.input_mtok is None) or (completion and rates.output_mtok is None):
        return None
    return EXACT.add(price.input_price, price.output_price)
