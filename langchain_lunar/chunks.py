"""Chunks of a stream → LangChain's chunks. One converter per stream; ``_stream`` and ``_astream`` share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_lunar.messages import (
    additional_kwargs,
    generation_info,
    text_of,
    usage_metadata,
)
from lunar_core import bridge
from lunar_core.wire import answers
from lunar_core.wire.completions import CallInfo, RoutingDecision
from lunar_core.wire.deltas import ToolCallSlots
from lunar_core.wire.usage import Usage

JSONObject = dict[str, Any]


class ChunkConverter:
    """Hands on what the model says as it comes, and keeps what is known of the call for the last chunk.

    LangChain adds chunks up: equal strings double, numbers sum, floats fail. So each key of the metadata is on one
    chunk alone: the route on the first, everything else on the last, whatever the service's own habit.
    """

    def __init__(self, *, langsmith_cost: bool = False) -> None:
        self._langsmith_cost = langsmith_cost
        self._slots = ToolCallSlots()
        self._started: set[int] = set()  # tool calls whose id and name were handed on
        self._usage: JSONObject = {}
        self._stated: JSONObject = {}  # model, id and provider, as last said
        self._finish_reason: str | None = None
        self._route: JSONObject | None = None
        self._route_told = False

    def feed(self, chunk: JSONObject) -> ChatGenerationChunk | None:
        """What ``chunk`` adds to the message, or None if that is nothing."""
        for name in ("model", "id", "provider"):
            if name in chunk:
                self._stated[name] = chunk[name]
        usage = chunk.get("usage")
        if usage:
            # A last word on tokens must not wipe out the cost that an earlier chunk stated.
            self._usage.update({key: value for key, value in usage.items() if value is not None})
        if self._route is None:
            self._route = chunk.get("routing")
        choice = chunk["choices"][0]
        if choice.get("index"):
            return None  # a message has one text: that of the first choice
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        return self._said({} if delta is None else delta, choice.get("logprobs"))

    def _said(self, delta: JSONObject, logprobs: object) -> ChatGenerationChunk | None:
        content = delta.get("content")
        text = content if type(content) is str else text_of(content)
        more = additional_kwargs(delta) if len(delta) > 1 or not text else {}
        calls = self._tool_calls(delta["tool_calls"]) if delta.get("tool_calls") else []
        if not (text or more or calls or logprobs):
            return None
        told: JSONObject = {}
        if self._route is not None and not self._route_told:
            self._route_told, told = True, {"routing": self._route}
        message = AIMessageChunk(
            content=text, additional_kwargs=more, tool_call_chunks=calls, response_metadata=told
        )
        return ChatGenerationChunk(
            message=message, generation_info={"logprobs": logprobs} if logprobs else None
        )

    def _tool_calls(self, pieces: object) -> list[ToolCallChunk]:
        found = []
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, Mapping):
                continue
            function = piece.get("function")
            function = function if isinstance(function, Mapping) else {}
            call_id, name, arguments = (
                piece.get("id"),
                function.get("name"),
                function.get("arguments"),
            )
            slot = self._slots.slot(piece.get("index"), call_id, name)
            if slot in self._started:
                call_id = name = None  # said already: LangChain would double the name
            elif name:
                self._started.add(slot)
            found.append(
                ToolCallChunk(
                    name=name, args=arguments, id=call_id, index=slot, type="tool_call_chunk"
                )
            )
        return found

    @property
    def has_usage(self) -> bool:
        return bool(self._usage)

    def last(
        self, call: CallInfo, *, position: Literal["last"] | None = "last"
    ) -> ChatGenerationChunk:
        """The chunk that ends the message: no text, but all that is known of the call."""
        usage = answers.forgiving(Usage, dict(self._usage)) if self._usage else None
        model = self._stated.get("model")
        metadata = bridge.metadata(
            call=call,
            model=model if isinstance(model, str) else None,
            answer_id=self._stated.get("id"),
            finish_reason=self._finish_reason,
            usage=usage,
            routing=_decision(self._route),
            extra=self._stated,
        )
        info = generation_info(metadata)
        if self._route_told:
            metadata.pop("routing", None)
        message = AIMessageChunk(
            content="",
            response_metadata=metadata,
            usage_metadata=usage_metadata(usage, cost=self._langsmith_cost),
            chunk_position=position,
        )
        return ChatGenerationChunk(message=message, generation_info=info)


def _decision(route: JSONObject | None) -> RoutingDecision | None:
    if not isinstance(route, dict):
        return None
    try:
        return answers.forgiving(RoutingDecision, dict(route))
    except ValueError:
        return None
