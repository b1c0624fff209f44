"""A RouteReport: what routing would cost and how often it would err, by weight of cost, from decisions alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from lunar_core.batch.answering import checked_client
from lunar_core.batch.running import run_to_end
from lunar_core.checks import checked_count
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.entries import Entry, model_name
from lunar_core.cost.ledger import LedgerView
from lunar_core.cost.prices import Prices
from lunar_core.errors import ConfigurationError, LunarError, describe_unexpected
from lunar_core.evaluate.decisions import Decision, Decisions, ask_decisions, scores_of
from lunar_core.evaluate.intervals import expected_error_at_random
from lunar_core.evaluate.prompts import Prompt, checked_prompts
from lunar_core.evaluate.unmeasured import Unmeasured, find_unmeasured
from lunar_core.evaluate.weights import Baseline, WeightResult, cost_per_1000, weight_result
from lunar_core.routing import BREAK_TIES

WEIGHTS = (0.0, BREAK_TIES, 5.0, 20.0, 100.0)
OUTPUT_TOKENS = 300
_MOST_WEIGHTS = 50


@dataclass(frozen=True)
class RouteReport:
    """Whether routing helps these prompts, as far as decisions alone can show it.

    ``source``: "decisions" that were requested, or a "ledger" of earlier calls. ``output_tokens``: assumed for each
    answer; None if they were counted. ``unpriced``: models without a known price. ``stated_cost``: USD that the service
    billed for the decisions; None if it stated none. ``within``: how much more error than the best the recommended
    weight may have.

    >>> from lunar_core.evaluate import RouteReport
    >>> report = RouteReport.measure(["Prove that 7 is prime.", "Write a haiku."], weights=[0, 20])
    >>> [row.weight for row in report.weights]
    [0.0, 20.0]
    """

    source: Literal["decisions", "ledger"]
    prompts: tuple[Prompt, ...]
    prompt_count: int
    decisions: tuple[Decision, ...]
    weights: tuple[WeightResult, ...]
    baseline: Baseline
    unmeasured: Unmeasured
    unpriced: tuple[str, ...]
    failures: Mapping[Any, str]
    stated_cost: Decimal | None
    output_tokens: int | None
    within: float
    prices: Prices

    @classmethod
    def measure(
        cls,
        prompts: Iterable[str | Mapping[str, Any]] | Sequence[Prompt],
        *,
        weights: Sequence[float] = WEIGHTS,
        baseline: str = "gpt-4o",
        models: Sequence[str] | None = None,
        client: AsyncLunar | None = None,
        prices: Prices | None = None,
        output_tokens: int = OUTPUT_TOKENS,
        within: float = 0.01,
        concurrency: int = 16,
    ) -> RouteReport:
        """Ask for a decision on each prompt at each weight; nothing is generated.

        ``prompts``: texts, rows ``{"prompt" | "messages", …}``, or what ``read_prompts`` returned. ``models``: the
        candidates (default: all with a profile). ``prices``: default the service's, else the bundled ones.
        ``output_tokens``: assumed for each answer. ``client``: left open (default: ``AsyncLunar()``).

        Raises ConfigurationError for a wrong argument, before anything is sent, and what the first request raises.
        """
        return run_to_end(
            lambda: cls.ameasure(
                prompts,
                weights=weights,
                baseline=baseline,
                models=models,
                client=client,
                prices=prices,
                output_tokens=output_tokens,
                within=within,
                concurrency=concurrency,
            )
        )

    @classmethod
    async def ameasure(
        cls,
        prompts: Iterable[str | Mapping[str, Any]] | Sequence[Prompt],
        *,
        weights: Sequence[float] = WEIGHTS,
        baseline: str = "gpt-4o",
        models: Sequence[str] | None = None,
        client: AsyncLunar | None = None,
        prices: Prices | None = None,
        output_tokens: int = OUTPUT_TOKENS,
        within: float = 0.01,
        concurrency: int = 16,
    ) -> RouteReport:
        """The same, on a running event loop."""
        checked_count(concurrency, "concurrency", least=1)
        checked_count(output_tokens, "output_tokens", least=1)
        checked_weights = _checked_weights(weights)
        _check_comparison(baseline, within)
        rows = as_prompts(prompts)
        checked_client(client)
        if client is None:
            async with AsyncLunar(max_connections=concurrency) as own:
                return await cls.ameasure(
                    rows,
                    weights=checked_weights,
                    baseline=baseline,
                    models=models,
                    client=own,
                    prices=prices,
                    output_tokens=output_tokens,
                    within=within,
                    concurrency=concurrency,
                )
        decided = await ask_decisions(
            client,
            rows,
            weights=checked_weights,
            models=models,
            output_tokens=output_tokens,
            concurrency=concurrency,
        )
        return _report(
            decided,
            "decisions",
            baseline=baseline,
            prices=prices or await service_prices(client),
            output_tokens=output_tokens,
            within=within,
        )

    @classmethod
    def from_ledger(
        cls,
        ledger: LedgerView,
        *,
        baseline: str = "gpt-4o",
        prices: Prices | None = None,
        within: float = 0.01,
    ) -> RouteReport:
        """Report on routed calls of a ledger, with the service's own tokens and bills. Nothing is requested.

        ``prices`` (default: the bundled ones) are for the baseline. The weights belong to different calls, so they
        cannot be compared with each other as those of ``measure`` can.

        Raises ConfigurationError for a wrong argument, and if the ledger holds no routed answer.
        """
        _check_comparison(baseline, within)
        if not isinstance(ledger, LedgerView):
            raise ConfigurationError(f"ledger: expected a Ledger{describe_unexpected(ledger)}")
        decisions = tuple(
            _decision_of(entry)
            for entry in ledger
            if entry.routing is not None
            and entry.status == "ok"
            and entry.endpoint != "router.decide"
        )
        if not decisions:
            raise ConfigurationError("ledger: it holds no routed answer")
        return _report(
            Decisions((), decisions, {}, None),
            "ledger",
            baseline=baseline,
            prices=prices or _bundled_prices(),
            output_tokens=None,
            within=within,
        )

    @property
    def recommended(self) -> WeightResult | None:
        """The cheapest weight whose expected error is within ``within`` of the best; None if that is unknown."""
        errors = [row.expected_error for row in self.weights if row.expected_error is not None]
        fitting = [
            row
            for row in self.weights
            if row.cost_per_1000 is not None
            and row.expected_error is not None
            and row.expected_error <= min(errors) + self.within + 1e-12
        ]
        if self.source == "ledger" or not fitting:
            return None
        return min(fitting, key=lambda row: (row.cost_per_1000 or Decimal(0), row.weight or 0.0))

    def at_weight(self, weight: float | None) -> list[Decision]:
        """The decisions at one weight, in the order of the prompts."""
        return [decision for decision in self.decisions if decision.weight == weight]

    def to_dict(self) -> dict[str, object]:
        """Everything but the decisions as plain JSON: costs as strings, the caveats as ``notes``."""
        from lunar_core.evaluate.words import notes

        return {
            "source": self.source,
            "prompts": self.prompt_count,
            "failed": len(self.failures),
            "weights": [_plain(row) for row in self.weights],
            "baseline": _plain(self.baseline),
            "recommended_weight": None if self.recommended is None else self.recommended.weight,
            "within": self.within,
            "unmeasured": _plain(self.unmeasured),
            "stated_cost": None if self.stated_cost is None else format(self.stated_cost, "f"),
            "output_tokens": self.output_tokens,
            "prices": repr(self.prices),
            "notes": notes(self),
        }

    def to_html(self) -> str:
        """An HTML page with a picture of cost against error. It loads nothing."""
        from lunar_core.evaluate.page import page

        return page(self)

    def __str__(self) -> str:
        from lunar_core.evaluate.words import text

        return text(self)

    def __repr__(self) -> str:
        return f"RouteReport(prompts={self.prompt_count}, weights={len(self.weights)}, source={self.source!r})"


def as_prompts(prompts: Iterable[str | Mapping[str, Any]] | Sequence[Prompt]) -> list[Prompt]:
    """``prompts`` themselves if they were read already, else checked. Raises RowError."""
    if isinstance(prompts, (list, tuple)) and all(isinstance(row, Prompt) for row in prompts):
        if not prompts:
            raise ConfigurationError("prompts: there are none")
        return list(prompts)
    return checked_prompts(prompts)


async def service_prices(client: AsyncLunar) -> Prices:
    """The service's own prices, and the bundled ones for models that it does not list."""
    try:
        return Prices.of(await client.models.prices()) | _bundled_prices()
    except LunarError:
        return _bundled_prices()


def _bundled_prices() -> Prices:
    try:
        return Prices.bundled()
    except ConfigurationError:
        return Prices()  # then no cost is known, and the report says so


def _checked_weights(weights: object) -> tuple[float, ...]:
    if not isinstance(weights, (list, tuple)) or not 1 <= len(weights) <= _MOST_WEIGHTS:
        raise ConfigurationError(f"weights: expected a list of 1 to {_MOST_WEIGHTS} numbers")
    for weight in weights:
        if (
            isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not (math.isfinite(weight) and weight >= 0)
        ):
            raise ConfigurationError(f"weights: expected numbers of 0 or more, not {weight!r}")
    return tuple(sorted({float(weight) for weight in weights}))


def _check_comparison(baseline: object, within: object) -> None:
    if not isinstance(baseline, str) or not baseline.strip():
        raise ConfigurationError(
            f"baseline: expected a model's name{describe_unexpected(baseline)}"
        )
    if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 <= within <= 1:
        raise ConfigurationError(
            f"within: expected a number from 0 to 1{describe_unexpected(within)}"
        )


def _decision_of(entry: Entry) -> Decision:
    route = entry.routing or {}
    error, cluster = route.get("expected_error"), route.get("cluster_id")
    return Decision(
        prompt=entry.call_id,
        weight=entry.cost_weight,
        model=entry.model_name,
        expected_error=float(error) if isinstance(error, (int, float)) else None,
        cluster=cluster if isinstance(cluster, int) else None,
        scores=scores_of(route.get("all_scores")),
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        cost=entry.cost,
    )


def _report(
    decided: Decisions,
    source: Literal["decisions", "ledger"],
    *,
    baseline: str,
    prices: Prices,
    output_tokens: int | None,
    within: float,
) -> RouteReport:
    if not decided.decisions:
        raise ConfigurationError("prompts: none of them could be decided")
    by_weight: dict[float | None, list[Decision]] = {}
    for decision in decided.decisions:
        by_weight.setdefault(decision.weight, []).append(decision)
    # At a weight of nearly 0, scores are errors.
    free = [
        decision
        for weight, decisions in by_weight.items()
        if weight is None or weight <= BREAK_TIES
        for decision in decisions
    ]
    errors = {decision.prompt: decision.scores for decision in free if decision.scores is not None}
    baseline = model_name(baseline)
    weights = tuple(
        weight_result(decisions, errors, baseline, prices)
        for _, decisions in sorted(by_weight.items(), key=lambda item: item[0] or 0.0)
    )
    one_each = list({decision.prompt: decision for decision in decided.decisions}.values())
    models = {baseline, *(decision.model for decision in decided.decisions)}
    return RouteReport(
        source=source,
        prompts=decided.prompts,
        prompt_count=len(one_each),
        decisions=decided.decisions,
        weights=weights,
        baseline=Baseline(
            baseline,
            cost_per_1000(one_each, prices, model=baseline),
            expected_error_at_random({baseline: 1.0}, list(errors.values())),
        ),
        unmeasured=find_unmeasured({decision.prompt: decision for decision in free}.values()),
        unpriced=tuple(
            sorted(
                model
                for model in models
                if prices.cost(model, prompt_tokens=1, completion_tokens=1) is None
            )
        ),
        failures=decided.failures,
        stated_cost=decided.stated_cost,
        output_tokens=output_tokens,
        within=within,
        prices=prices,
    )


def _plain(value: object) -> dict[str, object]:
    return {
        name: format(item, "f") if isinstance(item, Decimal) else item
        for name, item in vars(value).items()
    }
