"""The figures of a route report, for its texts and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from lunar_core.evaluate.prompts import Prompt
from lunar_core.evaluate.unmeasured import Unmeasured
from lunar_core.evaluate.weights import Baseline, WeightResult


class RouteFigures(Protocol):
    """A RouteReport as its texts and pictures see it. RouteReport explains each field."""

    @property
    def source(self) -> str: ...

    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    @property
    def prompt_count(self) -> int: ...

    @property
    def weights(self) -> tuple[WeightResult, ...]: ...

    @property
    def baseline(self) -> Baseline: ...

    @property
    def unmeasured(self) -> Unmeasured: ...

    @property
    def unpriced(self) -> tuple[str, ...]: ...

    @property
    def failures(self) -> Mapping[Any, str]: ...

    @property
    def stated_cost(self) -> Decimal | None: ...

    @property
    def output_tokens(self) -> int | None: ...

    @property
    def within(self) -> float: ...

    @property
    def recommended(self) -> WeightResult | None: ...
