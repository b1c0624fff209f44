"""Turns chunks of a stream into LangChain's chunks.

One converter per stream, shared by ``_stream`` and ``_astream``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_lunar.answers import (
    ReadCalls,
    additional_kwargs,
    read_calls,
    reasoning_metadata,
)
from langchain_lunar.incomplete_calls import find_wrong_bracket
from langchain_lunar.messages import CALL_EXTRAS, CUSTOM_ARGUMENT
from langchain_lunar.metadata import (
    finite_logprobs,
    generation_info,
    read_decision,
    usage_metadata,
    with_extra,
)
from lunar_core import bridge
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire import parsing
from lunar_core.wire.content_parts import read_text
from lunar_core.wire.deltas import join_field, read_usage
from lunar_core.wire.output import judge_calls
from lunar_core.wire.replay import REASONING_FIELD
from lunar_core.wire.tool_calls import ToolCallAssembler, ToolCallPart, with_call_ids

JSONObject = dict[str, Any]

APART = 1_000
"""The first index of tool calls in content blocks.

langchain-core numbers text and reasoning from 0, and merges blocks that have the same index.
"""


_READ_APART = frozenset({"choices", "created", "object", "routing", "usage"})


class ChunkConverter:
    """Passes the model's words on as they come, and keeps what is known of the call for the last chunk.

    LangChain adds chunks up: equal strings double, numbers sum, floats fail. So each key of the metadata is on one
    chunk only. The call's id and the route are on the first, so that a stream that is left early has them; everything
    else is on the last.
    """

    def __init__(
        self,
        call_id: str,
        output_version: str | None = None,
        decision: RoutingDecision | None = None,
        *,
        own_names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._next_metadata: JSONObject = {"call_id": call_id}  # goes on the next chunk
        self._sent_keys: set[str] = set()
        self._first_slot = APART if output_version == "v1" else 0
        self._calls = ToolCallAssembler()
        self._own_names = own_names  # the original names of tools that were sent under another
        self._names: dict[int, str] = {}  # by tool call: its name so far, until that is passed on
        self._usage: JSONObject = {}
        self._stated: JSONObject = {}  # the last value of model, id and undocumented fields
        self._beside: JSONObject = {}  # refusal and other fields of the message
        self._finish_reason: str | None = None
        self._route: RoutingDecision | None = None
        self._plain = bridge.PlainTexts()
        self._take_route(decision)

    def feed(self, chunk: JSONObject) -> ChatGenerationChunk | None:
        """The chunk that ``chunk`` becomes, or None if it adds nothing to show yet."""
        text = None if self._next_metadata else self._plain.text(chunk)
        if text is not None:
            return ChatGenerationChunk(message=AIMessageChunk(content=text))
        for read_chunk in self._plain.unread(chunk):
            self._note(read_chunk)
        usage = read_usage(chunk)
        if isinstance(usage, dict):
            # A later chunk with tokens only must not remove the cost that an earlier one stated.
            self._usage.update({key: value for key, value in usage.items() if value is not None})
        if self._route is None and "routing" in chunk:
            self._take_route(read_decision(chunk["routing"]))
        choice = chunk["choices"][0]
        if choice.get("index"):
            choice = bridge.find_shown_choice(chunk["choices"])
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._finish_reason = reason
        delta = choice.get("delta")
        return self._message_chunk(delta if isinstance(delta, dict) else {}, choice.get("logprobs"))

    def _note(self, chunk: JSONObject) -> None:
        for name in chunk.keys() - _READ_APART:
            if chunk[name] not in (
                None,
                "",
            ):  # Azure's chunks about its filters have an empty model and id
                self._stated[name] = chunk[name]

    def _take_route(self, route: RoutingDecision | None) -> None:
        if route is not None:
            self._route = route
            self._next_metadata["routing"] = bridge.routing_dict(route)

    def _message_chunk(self, delta: JSONObject, logprobs: object) -> ChatGenerationChunk | None:
        content = delta.get("content")
        text = content if type(content) is str else read_text(content)
        calls = self._tool_calls(delta.get("tool_calls"))
        self._stated |= reasoning_metadata(delta)
        reasoning = self._set_aside(additional_kwargs(delta))
        likely = logprobs if isinstance(logprobs, dict) else {}
        likely = {
            name: finite_logprobs(tokens)
            for name, tokens in likely.items()
            if isinstance(tokens, list)
        }
        if not (text or calls or reasoning or likely):
            return None
        metadata, self._next_metadata = self._next_metadata, {}
        self._sent_keys |= metadata.keys()
        message = AIMessageChunk(
            content=text,
            additional_kwargs={REASONING_FIELD: reasoning} if reasoning else {},
            tool_call_chunks=calls,
            response_metadata=metadata,
        )
        return ChatGenerationChunk(
            message=message, generation_info={"logprobs": likely} if likely else None
        )

    def _set_aside(self, beside: JSONObject) -> str | None:
        """Keep the fields that LangChain could not add up. Returns the reasoning, which it can."""
        reasoning = beside.pop(REASONING_FIELD, None)
        for key, value in beside.items():
            self._beside[key] = join_field(key, self._beside.get(key), value)
        return reasoning if isinstance(reasoning, str) else None

    def _tool_calls(self, pieces: object) -> list[ToolCallChunk]:
        parts = self._calls.feed(pieces) if pieces else []
        return _join([chunk for part in parts if (chunk := self._tool_call(part)) is not None])

    def _tool_call(self, part: ToolCallPart) -> ToolCallChunk | None:
        name = self._own_name(part) if self._own_names else part.name
        # Free text is no JSON: it is sent whole, at the end.
        arguments = None if part.type == "custom" else part.arguments
        if name is None and part.id is None and arguments is None:
            return None
        return self._tool_call_chunk(part.number, part.id, name, arguments)

    def _own_name(self, part: ToolCallPart) -> str | None:
        """The original name of a call's tool, once it is complete: when the first arguments come."""
        if part.name:
            self._names[part.number] = self._names.get(part.number, "") + part.name
        if not part.arguments or part.number not in self._names:
            return None
        name = self._names.pop(part.number)
        return self._own_names.get(name, name)

    def _tool_call_chunk(
        self, number: int, call_id: str | None, name: str | None, arguments: str | None
    ) -> ToolCallChunk:
        return ToolCallChunk(
            type="tool_call_chunk",
            index=self._first_slot + number,
            id=call_id,
            name=name,
            args=arguments,
        )

    def _last_tool_calls(self, answer_id: str | None) -> tuple[list[ToolCallChunk], ReadCalls]:
        """The tool call chunks that were held back until the end, and all calls of the finished message.

        LangChain parses sums of chunks leniently: half a call would pass as a call. So an incomplete call ends with a
        bracket that is wrong there, and LangChain finds it invalid too.
        """
        chunks = [
            chunk
            for part in self._calls.finish(answer_id)
            if (chunk := self._tool_call(part)) is not None
        ]
        calls = with_call_ids(self._calls.calls(), answer_id)
        are_whole = judge_calls(calls, finish_reason=self._finish_reason)
        for number, call, is_whole in zip(self._calls.numbers(), calls, are_whole, strict=True):
            name = self._names.pop(number, None)
            own_name = self._own_names.get(name, name) if name else None
            rest = _rest_of_arguments(call, is_whole=is_whole)
            if own_name or rest:
                chunks.append(self._tool_call_chunk(number, None, own_name, rest))
        read = read_calls(calls, self._finish_reason, self._own_names)
        return _join(chunks), read

    @property
    def has_usage(self) -> bool:
        """Whether the service has stated usage."""
        return bool(self._usage)

    def last(
        self,
        call: CallInfo,
        *,
        is_whole: bool = True,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[ChatGenerationChunk]:
        """The chunks that end the message: what was held back of its tool calls, and all that is known of the call.

        They are two, because LangChain takes the tool calls of the last chunk for whole ones. ``is_whole``: the stream
        did not break off. ``extra``: more fields for ``additional_kwargs``.
        """
        for read_chunk in self._plain.unread():
            self._note(read_chunk)
        answer_id = _text(self._stated.pop("id", None))
        calls, read = self._last_tool_calls(answer_id)
        if read.extras:
            self._beside[CALL_EXTRAS] = read.extras
        usage = parsing.validate_leniently(Usage, dict(self._usage)) if self._usage else None
        stated = bridge.metadata(
            call=call,
            model=_text(self._stated.pop("model", None)),
            answer_id=answer_id,
            finish_reason=self._finish_reason,
            usage=usage,
            routing=self._route,
            extra=self._stated,
        )
        metadata = with_extra(stated, self._stated)
        info = generation_info(metadata)
        message = AIMessageChunk(
            content="",
            additional_kwargs={**self._beside, **extra},
            response_metadata={k: v for k, v in metadata.items() if k not in self._sent_keys},
            usage_metadata=usage_metadata(usage),
            chunk_position="last" if is_whole else None,
        )
        held_back = [AIMessageChunk(content="", tool_call_chunks=calls)] if calls else []
        return [
            *(ChatGenerationChunk(message=chunk) for chunk in held_back),
            ChatGenerationChunk(message=message, generation_info=info),
        ]


def _join(chunks: list[ToolCallChunk]) -> list[ToolCallChunk]:
    """``chunks`` with one for each call: of one message, LangChain does not put those of one call together."""
    joined: dict[int | None, ToolCallChunk] = {}
    for chunk in chunks:
        first = joined.setdefault(chunk["index"], chunk)
        if first is not chunk:
            first["id"] = first["id"] or chunk["id"]
            first["name"] = "".join(filter(None, (first["name"], chunk["name"]))) or None
            first["args"] = "".join(filter(None, (first["args"], chunk["args"]))) or None
    return list(joined.values())


def _rest_of_arguments(call: Mapping[str, Any], *, is_whole: bool) -> str | None:
    """The text to append to the arguments of a finished call.

    For a custom call all of its text, as JSON; for an incomplete call a wrong bracket; else None.
    """
    custom, function = call.get("custom"), call.get("function") or {}
    if is_whole:
        return (
            json.dumps({CUSTOM_ARGUMENT: custom["input"]}, ensure_ascii=False) if custom else None
        )
    if custom:
        text: str = custom["input"]
        return text + find_wrong_bracket(text)
    return find_wrong_bracket(function.get("arguments") or "")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
