"""The body of an answer → its value, for each endpoint. ValueError for what is no answer."""

from __future__ import annotations

from typing import TypeVar

from lunar_core.types.completions import ChatCompletion, Completion, RoutedCompletion
from lunar_core.wire.parsing import parse_as, parse_json, validate_leniently


def read_chat(payload: bytes) -> ChatCompletion:
    return _with_choices(parse_as(ChatCompletion, payload))


def read_text(payload: bytes) -> Completion:
    return _with_choices(parse_as(Completion, payload))


def read_routed(payload: bytes) -> RoutedCompletion:
    """An executed route: it has choices."""
    return _with_choices(parse_as(RoutedCompletion, payload))


def read_decision(payload: bytes) -> RoutedCompletion:
    """``execute: false``: ``routing``, or the decision at the top level (observed); no choices needed."""
    answer = parse_as(RoutedCompletion, payload)
    extra = answer.model_extra or {}
    if answer.routing is None and "selected_model" in extra:
        data = parse_json(payload)
        answer = validate_leniently(RoutedCompletion, {**answer.model_dump(), "routing": data})
    if answer.routing is None:
        raise ValueError("there is no routing decision")
    return answer


_C = TypeVar("_C", ChatCompletion, Completion, RoutedCompletion)


def _with_choices(answer: _C) -> _C:
    if not answer.choices:
        raise ValueError("there are no choices")
    return answer
