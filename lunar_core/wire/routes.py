"""Who answered: the provider that served an answer, and the route as headers state it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lunar_core.types.completions import RoutingDecision


def find_provider(
    model: str | None, route: RoutingDecision | None, extra: Mapping[str, object]
) -> str | None:
    """Who served the answer: the service's own word, else the route's, else the prefix of the model's name."""
    stated = extra.get("provider")
    if isinstance(stated, str) and stated:
        return stated
    if route is not None and route.selected_provider and model in (None, route.selected_model):
        return route.selected_provider
    prefix, slash, _ = (model or "").partition("/")
    return prefix if slash else None


def read_route(headers: Mapping[str, str]) -> RoutingDecision | None:
    """The route as the observed service states it beside a stream: in two headers."""
    model, cluster = headers.get("x-routing-model"), headers.get("x-routing-cluster") or ""
    if not model:
        return None
    number = re.fullmatch(r"-?[0-9]{1,9}", cluster)
    return RoutingDecision(selected_model=model, cluster_id=int(cluster) if number else None)
