"""Turns chunks of a stream into LlamaIndex's responses, as they come. No I/O: the caller feeds the chunks in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)

from llama_index_lunar.answer_parts import (
    AnswerToolCall,
    first_choice,
    keep_for_replay,
    make_message,
    read_logprobs,
    split_calls,
    string,
)
from llama_index_lunar.metadata import (
    answer_metadata,
    complete_raw,
    find_writer,
    reasoning_tokens,
)
from lunar_core import bridge
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire.content_parts import read_text
from lunar_core.wire.replay import SIGNED_FIELDS, join_signed
from lunar_core.wire.tool_calls import ToolCallAssembler, ToolCallPart

JSONObject = dict[str, Any]


class StreamFacts(Protocol):
    """What a stream knows about its call when it has ended."""

    @property
    def call(self) -> CallInfo: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def routing(self) -> RoutingDecision | None: ...


class ChatChunks:
    """Turns the chunks of one chat stream into responses, each with the whole message so far.

    A chunk without text, reasoning or tool calls is held back until the next one comes. So the last response can carry
    the metadata of the call, and no text waits for that.
    """

    def __init__(
        self,
        routing: JSONObject | None = None,
        own_names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._end = _StreamEnd(routing)
        self._own_names = own_names
        self._refusal = ""
        self._text: str | None = None
        self._reasoning = ""
        self._reasoning_field: str | None = None
        self._calls: dict[int, AnswerToolCall] = {}
        self._sound = ""
        self._signed: JSONObject = {}
        self._assembler = ToolCallAssembler()
        self._held: ChatResponse | None = None
        self._plain = bridge.PlainTexts()

    def feed(self, chunk: JSONObject) -> Sequence[ChatResponse]:
        """The responses to hand out after ``chunk``, in order."""
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
        text = content if isinstance(content, str) else read_text(content)
        text = text or self._hear(delta.get("audio"))
        if text or content == "":
            self._text = text if self._text is None else self._text + text
        self._refusal += string(delta.get("refusal")) or ""
        reasoning = bridge.find_reasoning(delta)
        self._reasoning += reasoning
        if reasoning:
            self._reasoning_field = bridge.find_reasoning_field(delta)
        for name in SIGNED_FIELDS:
            if delta.get(name):
                self._signed[name] = join_signed(self._signed.get(name), delta[name])
        parts = self._assembler.feed(delta.get("tool_calls"))
        self._add(parts)
        response = ChatResponse(
            message=make_message(self._text, self._reasoning, self._named_calls()),
            delta=text,
            raw=chunk,
            logprobs=read_logprobs(choice),
            additional_kwargs={"thinking_delta": reasoning} if reasoning else {},
        )
        held, self._held = self._held, None
        if text or reasoning or parts:
            return (response,) if held is None else (held, response)
        self._held = response
        return () if held is None else (held,)

    def last(self, stream: StreamFacts) -> ChatResponse:
        """The response that ends the stream."""
        for unread in self._plain.unread():
            self._end.note(unread)
        raw, metadata = self._end.conclude(stream, self._held, {"delta": {}})
        self._add(self._assembler.finish(string(raw.get("id"))))
        calls, invalid = split_calls(self._named_calls(), metadata.get("finish_reason"))
        if invalid:
            metadata["invalid_tool_calls"] = [call.to_wire() for call in invalid]
        if self._refusal:
            metadata["refusal"] = self._refusal
        thinking = reasoning_tokens(stream.usage)
        message = make_message(self._text, self._reasoning, calls, thinking)
        if self._sound:
            message.blocks.append(AudioBlock(audio=self._sound.encode()))
        writer = find_writer(stream.call, stream.routing)
        keep_for_replay(message, self._signed, writer, self._reasoning_field)
        return ChatResponse(
            message=message,
            delta="",
            raw=raw,
            logprobs=self._held.logprobs if self._held else None,
            additional_kwargs=metadata,
        )

    def _hear(self, audio: object) -> str:
        """Keep a piece of a spoken answer, in base64. Returns the words in it."""
        piece: JSONObject = audio if isinstance(audio, dict) else {}
        self._sound += string(piece.get("data")) or ""
        return string(piece.get("transcript")) or ""

    def _add(self, parts: Sequence[ToolCallPart]) -> None:
        for part in parts:
            if part.number not in self._calls:
                self._calls[part.number] = AnswerToolCall()
                self._calls = dict(sorted(self._calls.items()))
            self._calls[part.number].add(part)

    def _named_calls(self) -> Collection[AnswerToolCall]:
        """The calls so far, under the original names of their tools."""
        calls, names = self._calls.values(), self._own_names
        return [replace(c, name=names.get(c.name, c.name)) for c in calls] if names else calls


class CompletionChunks:
    """Turns the chunks of one text completion into responses, each with the whole text so far."""

    def __init__(self) -> None:
        self._end = _StreamEnd(None)
        self._text = ""
        self._held: CompletionResponse | None = None

    def feed(self, chunk: JSONObject) -> Sequence[CompletionResponse]:
        """The responses to hand out after ``chunk``, in order."""
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
    """Collects what the chunks of a stream state about the call, beside the answer."""

    def __init__(self, routing: JSONObject | None) -> None:
        self._routing = routing
        self._fields: JSONObject = {}
        self._finish_reason: str | None = None

    def note(self, chunk: JSONObject) -> None:
        self._finish_reason = (
            string(first_choice(chunk).get("finish_reason")) or self._finish_reason
        )
        for name in ("id", "model", "provider"):
            if string(chunk.get(name)):  # Azure's chunks about its filters have "" here
                self._fields[name] = chunk[name]

    def conclude(
        self,
        stream: StreamFacts,
        held: ChatResponse | CompletionResponse | None,
        empty: JSONObject,
    ) -> tuple[JSONObject, JSONObject]:
        """``raw`` and ``additional_kwargs`` of the last response, which replaces ``held``."""
        choice = {"index": 0, **empty, "finish_reason": self._finish_reason}
        raw = {**(held.raw if held and held.raw else {"choices": [choice]}), **self._fields}
        usage, route = stream.usage, stream.routing
        raw = complete_raw(raw, usage, bridge.routing_dict(route) or self._routing)
        return raw, answer_metadata(raw, stream.call, usage, route, self._finish_reason)
