"""Turns the data of one stream event into a chunk, or into the error that it states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from lunar_core.errors import AnswerFailedError, APIStreamError, RateLimitError
from lunar_core.types.completions import (
    ChatCompletionChunk,
    ChunkChoice,
    CompletionChunk,
    TextChunkChoice,
)
from lunar_core.wire import error_responses, parsing
from lunar_core.wire.finish_reasons import is_failure
from lunar_core.wire.sse import BEATS

JSONObject = dict[str, object]

# The model's own validator: 18 % quicker per chunk than going through model_validate_json.
_chat_chunk = ChatCompletionChunk.__pydantic_validator__.validate_json
_text_chunk = CompletionChunk.__pydantic_validator__.validate_json

_FIELDS = {"id", "object", "created", "model", "choices", "usage", "routing", "system_fingerprint"}

T = TypeVar("T")


def chat_chunk(payload: bytes) -> ChatCompletionChunk | None:
    """A chunk with at least one choice, or None for an empty event. Raises APIStreamError."""
    try:
        chunk: ChatCompletionChunk = _chat_chunk(payload)
    except ValidationError:
        return _unusual(payload, ChatCompletionChunk, {"index": 0, "delta": {}})
    if (
        chunk.choices
        and payload.rfind(b'"error"') < 0
        and payload.rfind(b'"message"') < 0
        and not _has_failed(chunk.choices)
    ):
        return chunk
    return _unusual(payload, ChatCompletionChunk, {"index": 0, "delta": {}})


def text_chunk(payload: bytes) -> CompletionChunk | None:
    """The same for text completions."""
    try:
        chunk: CompletionChunk = _text_chunk(payload)
    except ValidationError:
        return _unusual(payload, CompletionChunk, {"index": 0, "text": ""})
    if chunk.choices and payload.rfind(b'"error"') < 0 and not _has_failed(chunk.choices):
        return chunk
    return _unusual(payload, CompletionChunk, {"index": 0, "text": ""})


def plain_chunk(payload: bytes) -> JSONObject | None:
    """A chat or text chunk as decoded JSON, for the framework packages, which build their own objects from it.

    Its first choice is a dict with a ``delta`` (a dict) or a ``text`` (a string). None and errors as ``chat_chunk``.
    """
    try:
        chunk: JSONObject = from_json(payload)
        choices: Any = chunk["choices"]
        first = choices[0]  # of any other type: see the except below
        if (
            (type(first.get("delta")) is dict or type(first.get("text")) is str)
            and payload.rfind(b'"error"') < 0
            and (first.get("finish_reason") is None or not is_failure(first["finish_reason"]))
        ):
            return chunk
    except (ValueError, TypeError, LookupError, AttributeError):
        pass
    chat: ChatCompletionChunk | None = _unusual(
        payload, ChatCompletionChunk, {"index": 0, "delta": {}}
    )
    return (
        None
        if chat is None
        else {**chat.model_dump(exclude_unset=True), "choices": _with_deltas(chat)}
    )


_GROQ = "x_groq"
_GROQ_BYTES = b'"x_groq"'


def may_need_mending(data: bytes) -> bool:
    """Whether ``mend`` may change ``data``, which is one event or several."""
    return parsing.has_odd_numbers(data) or data.rfind(_GROQ_BYTES) >= 0


def mend(payload: bytes) -> bytes:
    """An event's data with its numbers made valid JSON, and with Groq's usage and error at the top.

    Groq states a stream's usage, and an error that ends the stream, in ``x_groq`` of the last chunk.
    """
    if not may_need_mending(payload):
        return payload
    try:
        data = parsing.parse_json(payload)
    except ValueError:
        return payload  # whoever reads it says what is wrong with it
    apart = data.get(_GROQ) if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(apart, dict):
        for field in ("usage", "error"):
            if apart.get(field) and not data.get(field):
                data[field] = apart[field]
    return to_json(data)


def _has_failed(choices: Iterable[ChunkChoice | TextChunkChoice]) -> bool:
    for choice in choices:  # noqa: SIM110  # any() takes three times as long, and this runs for every chunk
        if choice.finish_reason is not None and is_failure(choice.finish_reason):
            return True
    return False


def _with_deltas(chunk: ChatCompletionChunk) -> list[JSONObject]:
    return [{"delta": {}, **choice.model_dump(exclude_unset=True)} for choice in chunk.choices]


def _unusual(
    payload: bytes, kind: type[ChatCompletionChunk | CompletionChunk], empty: JSONObject
) -> T | None:
    """Read a payload that is not a plain chunk with choices: mend it, or raise what is wrong with it."""
    if not payload.strip():
        return None
    try:
        data = parsing.parse_json(payload)
    except ValueError as error:
        raise make_malformed_error(payload, str(error)) from None
    if data == {} or _is_beat(data):
        return None
    if not isinstance(data, dict):
        raise make_malformed_error(payload, "not a JSON object")
    if error_responses.find_failure(data) is not None:
        raise make_event_error(payload)
    if not _FIELDS & data.keys():
        raise make_malformed_error(payload, "none of the fields of a chunk")
    if not data.get("choices"):
        data["choices"] = [empty]
    _take_messages_for_deltas(data["choices"])
    try:
        return cast("T", parsing.validate_leniently(kind, data))
    except ValueError as error:
        raise make_malformed_error(payload, str(error)) from None


def _is_beat(data: object) -> bool:
    """Whether an event only keeps the connection alive, though its ``event:`` line does not say so."""
    return isinstance(data, dict) and data.keys() == {"type"} and data["type"] in BEATS


def as_chunk(body: bytes) -> bytes:
    """A whole chat or text completion as one chunk of a stream. Raises ValueError if ``body`` is neither."""
    data = parsing.parse_json(body)
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(choices, list) or not choices:
        raise ValueError("neither a stream nor a completion")
    _take_messages_for_deltas(choices)
    return to_json(data)


def _take_messages_for_deltas(choices: object) -> None:
    """Whoever only seems to stream sends a whole answer as one event: with a ``message``, where a chunk has a delta."""
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and "message" in choice and not choice.get("delta"):
            choice["delta"] = choice.pop("message")


def make_event_error(payload: bytes) -> AnswerFailedError | RateLimitError:
    """The error that an event states, in any form that was observed: JSON or text."""
    return error_responses.make_failure_error(payload, words="the service broke the stream off")


def make_malformed_error(payload: bytes, why: str) -> APIStreamError:
    """The error for a payload that is no chunk. ``why``: what is wrong with it."""
    shown = repr(payload[:200].decode("utf-8", "replace"))
    return APIStreamError(
        f"malformed chunk ({why}): {shown}", body=payload[:2_000].decode("utf-8", "replace")
    )
