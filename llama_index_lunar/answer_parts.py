"""Turns the parts of an answer, whole or as they stream, into the parts of LlamaIndex's messages. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ContentBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from lunar_core import bridge
from lunar_core.wire.output import judge_calls
from lunar_core.wire.parsing import LEAST_LOGPROB
from lunar_core.wire.replay import REASONING_FIELD, add_call_extra, read_call_extra
from lunar_core.wire.tool_calls import ToolCallPart, as_text

JSONObject = dict[str, Any]

REPLAY = "lunar_replay"
"""The key of ``additional_kwargs`` with the fields that go back to the message's writer. Memories keep it there."""


REASONING_NAME = "reasoning_field"
"""The key in ``REPLAY`` with the name by which the reasoning came, if not ``reasoning_content``."""


@dataclass
class AnswerToolCall:
    """A tool call, whole or as it streams. ``arguments``: JSON text, as the model wrote it.

    ``type``: "function", or "custom" for a call whose ``arguments`` are free text. ``extra``: the unknown fields, such
    as signatures, as ``lunar_core.wire.replay`` reads them.
    """

    id: str = ""
    name: str = ""
    arguments: str = ""
    type: str = "function"
    extra: JSONObject = field(default_factory=dict)

    @classmethod
    def from_wire(cls, call: JSONObject, own_names: Mapping[str, str]) -> AnswerToolCall:
        """A whole call of the API. ``own_names``: the original names of tools that were sent under another."""
        custom, function = call.get("custom"), call.get("function")
        if isinstance(custom, dict):
            name, arguments, kind = custom.get("name"), custom.get("input"), "custom"
        else:
            function = function if isinstance(function, dict) else {}
            name, arguments, kind = function.get("name"), function.get("arguments"), "function"
        name = string(name) or ""
        return cls(
            string(call.get("id")) or "",
            own_names.get(name, name),
            as_text(arguments),
            kind,
            read_call_extra(call),
        )

    def add(self, part: ToolCallPart) -> None:
        """Add a piece of a stream."""
        self.type = part.type
        self.id += part.id or ""
        self.name += part.name or ""
        self.arguments += part.arguments or ""
        self.extra |= part.extra
        if part.function_extra:
            self.extra["function"] = {**self.extra.get("function", {}), **part.function_extra}

    def to_wire(self) -> JSONObject:
        """The call in the form of the API."""
        if self.type == "custom":
            custom = {"name": self.name, "input": self.arguments}
            return add_call_extra({"id": self.id, "type": "custom", "custom": custom}, self.extra)
        function = {"name": self.name, "arguments": self.arguments}
        return add_call_extra({"id": self.id, "type": "function", "function": function}, self.extra)


def split_calls(
    calls: Iterable[AnswerToolCall], finish_reason: str | None
) -> tuple[list[AnswerToolCall], list[AnswerToolCall]]:
    """Split the calls of a finished answer into complete ones and ones that must not run."""
    listed = list(calls)
    are_whole = judge_calls([call.to_wire() for call in listed], finish_reason=finish_reason)
    judged = list(zip(listed, are_whole, strict=True))
    return [call for call, whole in judged if whole], [call for call, whole in judged if not whole]


def make_message(
    text: str | None,
    reasoning: str,
    calls: Collection[AnswerToolCall],
    reasoning_tokens: int | None = None,
) -> ChatMessage:
    """The assistant's message. ``text``: None if the answer has no text, not even an empty one."""
    if not (reasoning or calls) and text is not None:
        return ChatMessage(text, role=MessageRole.ASSISTANT)
    blocks: list[ContentBlock] = []
    if reasoning:
        blocks.append(ThinkingBlock(content=reasoning, num_tokens=reasoning_tokens))
    if text or (text is not None and not calls):
        blocks.append(TextBlock(text=text))
    blocks.extend(
        ToolCallBlock(
            tool_call_id=call.id,
            tool_name=call.name,
            tool_kwargs=call.arguments or ("" if call.type == "custom" else "{}"),
        )
        for call in calls
    )
    extra = {"tool_calls": [call.to_wire() for call in calls]} if calls else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def keep_for_replay(
    message: ChatMessage, signed: JSONObject, writer: str | None, reasoning_field: str | None
) -> None:
    """Put on a finished message the fields that go back with it, and the name of the model that wrote it.

    ``signed``: the signed fields. ``reasoning_field``: the name by which its reasoning came. Nothing is added to a
    message without signed fields, reasoning, or unknown fields on its tool calls.
    """
    has_reasoning = any(isinstance(block, ThinkingBlock) for block in message.blocks)
    calls = message.additional_kwargs.get("tool_calls", ())
    if signed or has_reasoning or any(read_call_extra(call) for call in calls):
        message.additional_kwargs[REPLAY] = {"model": writer, **signed}
    if reasoning_field not in (None, REASONING_FIELD):
        message.additional_kwargs[REPLAY][REASONING_NAME] = reasoning_field


def read_logprobs(choice: JSONObject) -> list[list[LogProb]] | None:
    """For each token its alternatives; the token alone if the service states none. None without log probabilities."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return None
    try:
        if "token_logprobs" in logprobs:  # the form of text completions
            return [
                [
                    LogProb(token=token, logprob=_finite(logprob))
                    for token, logprob in alternatives.items()
                ]
                for alternatives in objects(logprobs.get("top_logprobs"))
            ] or None
        return [
            [_logprob(option) for option in objects(token.get("top_logprobs")) or [token]]
            for token in objects(logprobs.get("content"))
        ] or None
    except ValueError:  # a form that LlamaIndex does not know: ``raw`` has them unchanged
        return None


def _logprob(token: JSONObject) -> LogProb:
    return LogProb(
        token=token.get("token") or "",
        logprob=_finite(token.get("logprob")),
        bytes=token.get("bytes") or [],
    )


def _finite(logprob: Any) -> Any:  # LogProb refuses what is no number
    is_infinite = isinstance(logprob, (int, float)) and not math.isfinite(logprob)
    return LEAST_LOGPROB if logprob is None or is_infinite else logprob


def first_choice(chunk: JSONObject) -> JSONObject:
    """The choice to show. A message has one text: the first choice's."""
    choices = chunk["choices"]
    first: JSONObject = choices[0]
    if not first.get("index"):
        return first
    return bridge.find_shown_choice(choices)


def objects(values: object) -> list[JSONObject]:
    """The JSON objects in ``values``; none if that is no list."""
    return (
        [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    )


def string(value: object) -> str | None:
    """``value`` if it is a string."""
    return value if isinstance(value, str) else None
