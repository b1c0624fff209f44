"""Finds the provider that served an answer, and the route that a response's headers state."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lunar_core.types.completions import RoutingDecision


def find_provider(
    model: str | None, route: RoutingDecision | None, extra: Mapping[str, object]
) -> str | None:
    """The provider that served the answer: as the service states it, else the route, else the model's prefix."""
    stated = extra.get("provider")
    if isinstance(stated, str) and stated:
        return stated
    if route is not None and route.selected_provider and model in (None, route.selected_model):
        return route.selected_provider
    prefix, slash, _ = (model or "").partition("/")
    return prefix if slash else None


def read_route(headers: Mapping[str, str]) -> RoutingDecision | None:
    """The route in the two headers with which the observed service begins a stream. None without them."""
    model, cluster = headers.get("x-routing-model"), headers.get("x-routing-cluster") or ""
    if not model:
        return None
    number = re.fullmatch(r"-?[0-9]{1,9}", cluster)
    return RoutingDecision(selected_model=model, cluster_id=int(cluster) if number else None)
