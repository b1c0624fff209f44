"""Answers of the API → LlamaIndex's responses: plain ones, and streams as they come.

What an answer cost and how it was routed stands in ``additional_kwargs`` of the response, flat, and again in ``raw``,
a plain dict: there token counters, agents and tracers look for it. In a stream it stands on the last response.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from lunar_core import bridge
from lunar_core.types.completions import CallInfo, ChatCompletion, Completion, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire.deltas import ToolCallSlots

JSONObject = dict[str, Any]


class Told(Protocol):
    """What a stream knows of its call once it has ended."""

    @property
    def call(self) -> CallInfo: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def routing(self) -> RoutingDecision | None: ...


def chat_response(answer: ChatCompletion, routing: JSONObject | None = None) -> ChatResponse:
    """A plain answer. ``routing``: the decision that an earlier call of the same loop got, if this one got none."""
    raw = _raw(answer, bridge.routing_dict(answer.routing) or routing)
    choice: JSONObject = raw["choices"][0] if raw.get("choices") else {}
    said: JSONObject = choice.get("message") or {}
    calls = [_Call.of(call) for call in said.get("tool_calls") or ()]
    finish, usage = choice.get("finish_reason"), answer.usage
    text, sound = said.get("content"), said.get("audio")
    audio: JSONObject = sound if isinstance(sound, dict) else {}
    message = _message(
        text or _str(audio.get("transcript")) or text,
        _thoughts(said),
        calls,
        _thought_tokens(usage),
    )
    if isinstance(audio.get("data"), str):
        message.blocks.append(AudioBlock(audio=audio["data"].encode()))
    return ChatResponse(
        message=message,
        raw=raw,
        logprobs=_logprobs(choice),
        additional_kwargs=_known(raw, answer.call, usage, answer.routing, finish),
    )


def text_response(answer: Completion) -> CompletionResponse:
    """A plain answer of the text endpoint."""
    raw = _raw(answer, None)
    choice: JSONObject = raw["choices"][0] if raw.get("choices") else {}
    finish = choice.get("finish_reason")
    return CompletionResponse(
        text=choice.get("text") or "",
        raw=raw,
        logprobs=_logprobs(choice),
        additional_kwargs=_known(raw, answer.call, answer.usage, None, finish),
    )


def as_completion(response: ChatResponse) -> CompletionResponse:
    """What ``complete()`` returns of a chat. Tool calls stay visible, as the framework's own conversion has them."""
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs={**response.message.additional_kwargs, **response.additional_kwargs},
    )


def as_chat(response: CompletionResponse) -> ChatResponse:
    """What ``chat()`` returns of a text completion."""
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


class ChatChunks:
    """Chunks of a chat stream → responses, each with the whole message so far. One for each stream.

    A chunk that says nothing is kept back until the next one comes: the last one of all carries what is known of
    the call, and no text ever waits for that.
    """

    def __init__(self, routing: JSONObject | None = None) -> None:
        self._end = _End(routing)
        self._text: str | None = None
        self._thoughts = ""
        self._calls: dict[int, _Call] = {}
        self._slots = ToolCallSlots()
        self._held: ChatResponse | None = None
        self._plain = bridge.PlainTexts()

    def feed(self, chunk: JSONObject) -> Sequence[ChatResponse]:
        """The responses to hand out now that ``chunk`` has come, in order."""
        only_text = None if self._held or self._calls or self._thoughts else self._plain.text(chunk)
        if only_text is not None:
            self._text = only_text if self._text is None else self._text + only_text
            message = ChatMessage(self._text, role=MessageRole.ASSISTANT)
            return (ChatResponse(message=message, delta=only_text, raw=chunk),)
        for each in self._plain.unread(chunk):
            self._end.note(each)
        choice = _first(chunk)
        found = choice.get("delta")
        delta: JSONObject = found if isinstance(found, dict) else {}
        content = delta.get("content")
        text = content if isinstance(content, str) else _text_in(content)
        if text or content == "":
            self._text = text if self._text is None else self._text + text
        thought = _thoughts(delta)
        self._thoughts += thought
        pieces = _objects(delta.get("tool_calls"))
        for piece in pieces:
            self._add(piece)
        response = ChatResponse(
            message=_message(self._text, self._thoughts, self._calls.values()),
            delta=text,
            raw=chunk,
            logprobs=_logprobs(choice),
            additional_kwargs={"thinking_delta": thought} if thought else {},
        )
        held, self._held = self._held, None
        if text or thought or pieces:
            return (response,) if held is None else (held, response)
        self._held = response
        return () if held is None else (held,)

    def last(self, stream: Told) -> ChatResponse:
        """The response that ends the stream."""
        for each in self._plain.unread():
            self._end.note(each)
        raw, known = self._end.told(stream, self._held, {"delta": {}})
        for call in self._calls.values():
            call.id = call.id or new_call_id()
        thinking = _thought_tokens(stream.usage)
        return ChatResponse(
            message=_message(self._text, self._thoughts, self._calls.values(), thinking),
            delta="",
            raw=raw,
            logprobs=self._held.logprobs if self._held else None,
            additional_kwargs=known,
        )

    def _add(self, piece: JSONObject) -> None:
        found = piece.get("function")
        function: JSONObject = found if isinstance(found, dict) else {}
        index, call_id, name = piece.get("index"), _str(piece.get("id")), _str(function.get("name"))
        slot = self._slots.slot(index if isinstance(index, int) else None, call_id, name)
        call = self._calls.get(slot)
        if call is None:
            call = self._calls[slot] = _Call()
            self._calls = dict(sorted(self._calls.items()))
        call.id = call.id or call_id or ""
        if name and name != call.name:
            call.name += name
        call.arguments += _text_of(function.get("arguments"))


class TextChunks:
    """Chunks of a text completion → responses, each with the whole text so far. One for each stream."""

    def __init__(self) -> None:
        self._end = _End(None)
        self._text = ""
        self._held: CompletionResponse | None = None

    def feed(self, chunk: JSONObject) -> Sequence[CompletionResponse]:
        """The responses to hand out now that ``chunk`` has come, in order."""
        choice = _first(chunk)
        self._end.note(chunk)
        text = _str(choice.get("text")) or ""
        self._text += text
        logprobs = _logprobs(choice)
        response = CompletionResponse(text=self._text, delta=text, raw=chunk, logprobs=logprobs)
        held, self._held = self._held, None
        if text:
            return (response,) if held is None else (held, response)
        self._held = response
        return () if held is None else (held,)

    def last(self, stream: Told) -> CompletionResponse:
        """The response that ends the stream."""
        raw, known = self._end.told(stream, self._held, {"text": ""})
        return CompletionResponse(text=self._text, delta="", raw=raw, additional_kwargs=known)


class _End:
    """What the chunks of a stream say of the call, beside the answer."""

    def __init__(self, routing: JSONObject | None) -> None:
        self._routing = routing
        self._said: JSONObject = {}
        self._finish_reason: str | None = None

    def note(self, chunk: JSONObject) -> None:
        self._finish_reason = _str(_first(chunk).get("finish_reason")) or self._finish_reason
        for name in ("id", "model", "provider"):
            if isinstance(chunk.get(name), str):
                self._said[name] = chunk[name]

    def told(
        self, stream: Told, held: ChatResponse | CompletionResponse | None, empty: JSONObject
    ) -> tuple[JSONObject, JSONObject]:
        """``raw`` and ``additional_kwargs`` of the last response, which takes the place of ``held``."""
        choice = {"index": 0, **empty, "finish_reason": self._finish_reason}
        raw = {**self._said, **(held.raw if held and held.raw else {"choices": [choice]})}
        usage, route = stream.usage, stream.routing
        raw = _completed(raw, usage, bridge.routing_dict(route) or self._routing)
        return raw, _known(raw, stream.call, usage, route, self._finish_reason)


@dataclass
class _Call:
    """A tool call, whole or as far as it has come. ``arguments`` is JSON text, as the model wrote it."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    @classmethod
    def of(cls, call: JSONObject) -> _Call:
        function = call.get("function") or {}
        arguments = _text_of(function.get("arguments"))
        return cls(call.get("id") or new_call_id(), function.get("name") or "", arguments)


def new_call_id() -> str:
    """An id for a tool call whose upstream gave it none: its result must name one."""
    return f"call_{uuid.uuid4().hex}"


def _message(
    text: str | None, thoughts: str, calls: Collection[_Call], thought_tokens: int | None = None
) -> ChatMessage:
    if not (thoughts or calls) and text is not None:
        return ChatMessage(text, role=MessageRole.ASSISTANT)
    blocks: list[ContentBlock] = []
    if thoughts:
        blocks.append(ThinkingBlock(content=thoughts, num_tokens=thought_tokens))
    if text or (text is not None and not calls):
        blocks.append(TextBlock(text=text))
    blocks.extend(
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments or "{}")
        for call in calls
    )
    plain = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    extra = {"tool_calls": plain} if plain else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def _raw(answer: ChatCompletion | Completion, routing: JSONObject | None) -> JSONObject:
    raw = answer.model_dump(mode="json", exclude_unset=True)
    return _completed(raw, answer.usage, routing)


def _completed(raw: JSONObject, usage: Usage | None, routing: JSONObject | None) -> JSONObject:
    """``raw`` with the whole of what the service said of tokens, cost and route."""
    if usage is not None:
        raw["usage"] = usage.model_dump(mode="json", exclude_none=True)
    if routing is not None:
        raw["routing"] = routing
        raw["model"] = raw.get("model") or routing.get("selected_model")
    return raw


def _known(
    raw: JSONObject,
    call: CallInfo,
    usage: Usage | None,
    route: RoutingDecision | None,
    finish_reason: str | None,
) -> JSONObject:
    """Tokens, costs and the rest, flat, absent where unknown."""
    known: JSONObject = {}
    if usage is not None:
        prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
        known = {name: count for name, count in counts.items() if count is not None}
    known |= bridge.metadata(
        call=call,
        model=_str(raw.get("model")),
        answer_id=_str(raw.get("id")),
        finish_reason=finish_reason,
        usage=usage,
        routing=route,
        extra=raw,
    )
    known["model"] = known.pop("model_name", None) or call.requested_model
    known.pop("model_provider")
    if raw.get("routing"):
        known["routing"] = raw["routing"]
    return known


def _thoughts(said: JSONObject) -> str:
    """What a reasoning model says to itself. Upstreams name the field in two ways."""
    for name in ("reasoning_content", "reasoning"):
        thoughts = said.get(name)
        if isinstance(thoughts, str) and thoughts:
            return thoughts
    return ""


def _thought_tokens(usage: Usage | None) -> int | None:
    details = usage and usage.completion_tokens_details
    return details.reasoning_tokens if details else None


def _text_of(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def _logprobs(choice: JSONObject) -> list[list[LogProb]] | None:
    """For each token the alternatives that the model had; the token alone where the service names none."""
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        return None
    try:
        if "token_logprobs" in told:  # as text completions tell them
            return [
                [LogProb(token=token, logprob=logprob) for token, logprob in each.items()]
                for each in _objects(told.get("top_logprobs"))
            ] or None
        return [
            [_logprob(each) for each in _objects(token.get("top_logprobs")) or [token]]
            for token in _objects(told.get("content"))
        ] or None
    except ValueError:  # not in a form that LlamaIndex knows: raw has them as they are
        return None


def _logprob(token: JSONObject) -> LogProb:
    return LogProb(
        token=token.get("token") or "",
        logprob=token.get("logprob") or 0.0,
        bytes=token.get("bytes") or [],
    )


def _first(chunk: JSONObject) -> JSONObject:
    """The choice that is shown: a message has one text, and of several choices that is the first."""
    choices = chunk["choices"]
    first: JSONObject = choices[0]
    if not first.get("index"):
        return first
    return next((each for each in _objects(choices) if not each.get("index")), {})


def _text_in(content: object) -> str:
    """The text of content that an upstream sends as a list of parts."""
    return "".join(_str(part.get("text")) or "" for part in _objects(content))


def _objects(values: object) -> list[JSONObject]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None
