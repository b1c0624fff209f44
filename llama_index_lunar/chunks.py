"""Chunks of a stream → LlamaIndex's responses, as they come. No I/O: the streams' shells feed them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)

from llama_index_lunar.answer_parts import (
    AnswerToolCall,
    first_choice,
    make_message,
    new_call_id,
    objects,
    read_logprobs,
    string,
    string_or_json,
    text_of_parts,
)
from llama_index_lunar.metadata import answer_metadata, complete_raw, reasoning_tokens
from lunar_core import bridge
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire.deltas import ToolCallSlots

JSONObject = dict[str, Any]


class StreamFacts(Protocol):
    """What a stream knows of its call once it has ended."""

    @property
    def call(self) -> CallInfo: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def routing(self) -> RoutingDecision | None: ...


class ChatChunks:
    """Chunks of a chat stream → responses, each with the whole message so far. One for each stream.

    A chunk that says nothing is kept back until the next one comes: the last one of all carries what is known of
    the call, and no text ever waits for that.
    """

    def __init__(self, routing: JSONObject | None = None) -> None:
        self._end = _StreamEnd(routing)
        self._text: str | None = None
        self._reasoning = ""
        self._calls: dict[int, AnswerToolCall] = {}
        self._slots = ToolCallSlots()
        self._held: ChatResponse | None = None
        self._plain = bridge.PlainTexts()

    def feed(self, chunk: JSONObject) -> Sequence[ChatResponse]:
        """The responses to hand out now that ``chunk`` has come, in order."""
        only_text = None
        if not (self._held or self._calls or self._reasoning):
            only_text = self._plain.text(chunk)
        if only_text is not None:
            self._text = only_text if self._text is None else self._text + only_text
            message = ChatMessage(self._text, role=MessageRole.ASSISTANT)
            return (ChatResponse(message=message, delta=only_text, raw=chunk),)
        for unread in self._plain.unread(chunk):
            self._end.note(unread)
        choice = first_choice(chunk)
        value = choice.get("delta")
        delta: JSONObject = value if isinstance(value, dict) else {}
        content = delta.get("content")
        text = content if isinstance(content, str) else text_of_parts(content)
        if text or content == "":
            self._text = text if self._text is None else self._text + text
        reasoning = bridge.find_reasoning(delta)
        self._reasoning += reasoning
        pieces = objects(delta.get("tool_calls"))
        for piece in pieces:
            self._add(piece)
        response = ChatResponse(
            message=make_message(self._text, self._reasoning, self._calls.values()),
            delta=text,
            raw=chunk,
            logprobs=read_logprobs(choice),
            additional_kwargs={"thinking_delta": reasoning} if reasoning else {},
        )
        held, self._held = self._held, None
        if text or reasoning or pieces:
            return (response,) if held is None else (held, response)
        self._held = response
        return () if held is None else (held,)

    def last(self, stream: StreamFacts) -> ChatResponse:
        """The response that ends the stream."""
        for unread in self._plain.unread():
            self._end.note(unread)
        raw, metadata = self._end.conclude(stream, self._held, {"delta": {}})
        for call in self._calls.values():
            call.id = call.id or new_call_id()
        thinking = reasoning_tokens(stream.usage)
        return ChatResponse(
            message=make_message(self._text, self._reasoning, self._calls.values(), thinking),
            delta="",
            raw=raw,
            logprobs=self._held.logprobs if self._held else None,
            additional_kwargs=metadata,
        )

    def _add(self, piece: JSONObject) -> None:
        value = piece.get("function")
        function: JSONObject = value if isinstance(value, dict) else {}
        index, call_id, name = (
            piece.get("index"),
            string(piece.get("id")),
            string(function.get("name")),
        )
        slot = self._slots.slot(index if isinstance(index, int) else None, call_id, name)
        call = self._calls.get(slot)
        if call is None:
            call = self._calls[slot] = AnswerToolCall()
            self._calls = dict(sorted(self._calls.items()))
        call.id = call.id or call_id or ""
        if name and name != call.name:
            call.name += name
        call.arguments += string_or_json(function.get("arguments"))


class TextChunks:
    """Chunks of a text completion → responses, each with the whole text so far. One for each stream."""

    def __init__(self) -> None:
        self._end = _StreamEnd(None)
        self._text = ""
        self._held: CompletionResponse | None = None

    def feed(self, chunk: JSONObject) -> Sequence[CompletionResponse]:
        """The responses to hand out now that ``chunk`` has come, in order."""
        choice = first_choice(chunk)
        self._end.note(chunk)
        text = string(choice.get("text")) or ""
        self._text += text
        logprobs = read_logprobs(choice)
        response = CompletionResponse(text=self._text, delta=text, raw=chunk, logprobs=logprobs)
        held, self._held = self._held, None
        if text:
            return (response,) if held is None else (held, response)
        self._held = response
        return () if held is None else (held,)

    def last(self, stream: StreamFacts) -> CompletionResponse:
        """The response that ends the stream."""
        raw, metadata = self._end.conclude(stream, self._held, {"text": ""})
        return CompletionResponse(text=self._text, delta="", raw=raw, additional_kwargs=metadata)


class _StreamEnd:
    """What the chunks of a stream say of the call, beside the answer."""

    def __init__(self, routing: JSONObject | None) -> None:
        self._routing = routing
        self._fields: JSONObject = {}
        self._finish_reason: str | None = None

    def note(self, chunk: JSONObject) -> None:
        self._finish_reason = (
            string(first_choice(chunk).get("finish_reason")) or self._finish_reason
        )
        for name in ("id", "model", "provider"):
            if isinstance(chunk.get(name), str):
                self._fields[name] = chunk[name]

    def conclude(
        self,
        stream: StreamFacts,
        held: ChatResponse | CompletionResponse | None,
        empty: JSONObject,
    ) -> tuple[JSONObject, JSONObject]:
        """``raw`` and ``additional_kwargs`` of the last response, which takes the place of ``held``."""
        choice = {"index": 0, **empty, "finish_reason": self._finish_reason}
        raw = {**self._fields, **(held.raw if held and held.raw else {"choices": [choice]})}
        usage, route = stream.usage, stream.routing
        raw = complete_raw(raw, usage, bridge.routing_dict(route) or self._routing)
        return raw, answer_metadata(raw, stream.call, usage, route, self._finish_reason)
