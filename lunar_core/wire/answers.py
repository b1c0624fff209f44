"""Reads the body of an answer, for each endpoint. Raises ValueError for a body that is no answer.

A body that states a failure, instead of content or beside it, raises AnswerFailedError.
"""

from __future__ import annotations

from typing import TypeVar

from lunar_core.types.completions import (
    ChatCompletion,
    Choice,
    Completion,
    RoutedCompletion,
    TextChoice,
    ToolCall,
)
from lunar_core.wire.error_responses import find_failure, make_failure_error
from lunar_core.wire.event_streams import is_event_stream, put_together
from lunar_core.wire.finish_reasons import is_failure
from lunar_core.wire.parsing import parse_as, parse_json, validate_leniently
from lunar_core.wire.tool_calls import make_call_id, settle_arguments


def read_chat(payload: bytes) -> ChatCompletion:
    return _with_settled_calls(_read(ChatCompletion, payload))


def read_text(payload: bytes) -> Completion:
    return _read(Completion, payload)


def read_routed(payload: bytes) -> RoutedCompletion:
    """The answer of POST /v1/router with a model's completion: it has choices."""
    return _with_settled_calls(_read(RoutedCompletion, payload))


def read_decision(payload: bytes) -> RoutedCompletion:
    """The answer of POST /v1/router with ``execute: false``: a decision, and no choices.

    The decision is under ``routing``, or, as it was observed, at the top level.
    """
    answer = parse_as(RoutedCompletion, payload)
    extra = answer.model_extra or {}
    if answer.routing is None and "selected_model" in extra:
        data = parse_json(payload)
        answer = validate_leniently(RoutedCompletion, {**answer.model_dump(), "routing": data})
    if answer.routing is None:
        raise ValueError("there is no routing decision")
    return answer


_C = TypeVar("_C", ChatCompletion, Completion, RoutedCompletion)


def _read(kind: type[_C], payload: bytes) -> _C:
    if is_event_stream(payload):
        return validate_leniently(kind, put_together(payload, kind))
    answer = parse_as(kind, payload)
    if any(not _has_body(call) for choice in answer.choices for call in _calls_of(choice)):
        answer = validate_leniently(
            kind, parse_json(payload)
        )  # it mends other forms of a tool call
    return _check(answer, payload)


def _check(answer: _C, payload: bytes) -> _C:
    """Refuse an answer without choices, or with a failure. Returns it with its choices sorted by index."""
    if not answer.choices:
        raise ValueError("there are no choices")
    if not all(map(_is_answered, answer.choices)):
        raise ValueError("one of the choices holds no answer")
    may_tell = b'"error"' in payload or any(is_failure(c.finish_reason) for c in answer.choices)
    if may_tell and find_failure(parse_json(payload)) is not None:
        error = make_failure_error(payload)
        error.partial = answer
        raise error
    if any(choice.index != place for place, choice in enumerate(answer.choices)):
        in_order = sorted(answer.choices, key=lambda choice: choice.index)
        return answer.model_copy(update={"choices": in_order})
    return answer


def _is_answered(choice: Choice | TextChoice) -> bool:
    """Whether a choice holds an answer, perhaps an empty one: a blocked answer has only its ``finish_reason``."""
    content = "message" if isinstance(choice, Choice) else "text"
    if content in choice.model_fields_set:
        return True
    return bool(choice.finish_reason) and "message" not in (choice.model_extra or {})


_Chat = TypeVar("_Chat", ChatCompletion, RoutedCompletion)


def _with_settled_calls(answer: _Chat) -> _Chat:
    """``answer`` with its tool calls as a stream of them would be put together, and an id on each.

    The result of a tool must name its call.
    """
    if not any(map(_calls_of, answer.choices)):
        return answer
    choices = [_with_settled_calls_in(choice, answer.id) for choice in answer.choices]
    return answer.model_copy(update={"choices": choices})


def _with_settled_calls_in(choice: Choice, answer_id: str | None) -> Choice:
    named: list[ToolCall] = []
    for place, call in enumerate(map(_settle, filter(_says_something, _calls_of(choice)))):
        has_own_id = call.id and call.id not in [other.id for other in named]
        own_id = call.id if has_own_id else _call_id(call, place, answer_id)
        named.append(call if has_own_id else call.model_copy(update={"id": own_id}))
    if named == _calls_of(choice):
        return choice
    message = choice.message.model_copy(update={"tool_calls": named})
    return choice.model_copy(update={"message": message})


def _settle(call: ToolCall) -> ToolCall:
    """``call`` with its arguments once, if they came twice."""
    text = settle_arguments(call.function.arguments)
    if call.custom is not None or text == call.function.arguments:
        return call
    function = call.function.model_copy(update={"arguments": text})
    return call.model_copy(update={"function": function})


def _says_something(call: ToolCall) -> bool:
    return bool(call.id or call.custom or call.function.name or call.function.arguments)


def _call_id(call: ToolCall, place: int, answer_id: str | None) -> str:
    if call.custom is not None:
        return make_call_id(answer_id, place, call.custom.name, call.custom.input)
    return make_call_id(answer_id, place, call.function.name, call.function.arguments)


def _calls_of(choice: Choice | TextChoice) -> list[ToolCall]:
    return (choice.message.tool_calls or []) if isinstance(choice, Choice) else []


def _has_body(call: ToolCall) -> bool:
    return not call.model_fields_set.isdisjoint({"function", "custom"})
