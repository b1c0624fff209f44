"""The parts of an answer, whole or as far as they have come → the parts of LlamaIndex's messages. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
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

JSONObject = dict[str, Any]


@dataclass
class AnswerToolCall:
    """A tool call, whole or as far as it has come. ``arguments`` is JSON text, as the model wrote it."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    @classmethod
    def from_wire(cls, call: JSONObject) -> AnswerToolCall:
        """A whole call as the API writes it."""
        function = call.get("function") or {}
        arguments = string_or_json(function.get("arguments"))
        return cls(call.get("id") or new_call_id(), function.get("name") or "", arguments)

    def to_wire(self) -> JSONObject:
        """The same as the API writes it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


def new_call_id() -> str:
    """An id for a tool call whose upstream gave it none: its result must name one."""
    return f"call_{uuid.uuid4().hex}"


def make_message(
    text: str | None,
    reasoning: str,
    calls: Collection[AnswerToolCall],
    reasoning_tokens: int | None = None,
) -> ChatMessage:
    """The assistant's message. ``text`` is None where the answer has none, not even an empty one."""
    if not (reasoning or calls) and text is not None:
        return ChatMessage(text, role=MessageRole.ASSISTANT)
    blocks: list[ContentBlock] = []
    if reasoning:
        blocks.append(ThinkingBlock(content=reasoning, num_tokens=reasoning_tokens))
    if text or (text is not None and not calls):
        blocks.append(TextBlock(text=text))
    blocks.extend(
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments or "{}")
        for call in calls
    )
    extra = {"tool_calls": [call.to_wire() for call in calls]} if calls else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def read_logprobs(choice: JSONObject) -> list[list[LogProb]] | None:
    """For each token the alternatives that the model had; the token alone where the service names none."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return None
    try:
        if "token_logprobs" in logprobs:  # the form of text completions
            return [
                [LogProb(token=token, logprob=logprob) for token, logprob in alternatives.items()]
                for alternatives in objects(logprobs.get("top_logprobs"))
            ] or None
        return [
            [_logprob(option) for option in objects(token.get("top_logprobs")) or [token]]
            for token in objects(logprobs.get("content"))
        ] or None
    except ValueError:  # not in a form that LlamaIndex knows: raw has them as they are
        return None


def _logprob(token: JSONObject) -> LogProb:
    return LogProb(
        token=token.get("token") or "",
        logprob=token.get("logprob") or 0.0,
        bytes=token.get("bytes") or [],
    )


def first_choice(chunk: JSONObject) -> JSONObject:
    """The choice that is shown: a message has one text, and of several choices that is the first."""
    choices = chunk["choices"]
    first: JSONObject = choices[0]
    if not first.get("index"):
        return first
    return next((choice for choice in objects(choices) if not choice.get("index")), {})


def text_of_parts(content: object) -> str:
    """The text of content that an upstream sends as a list of parts."""
    return "".join(string(part.get("text")) or "" for part in objects(content))


def objects(values: object) -> list[JSONObject]:
    """The JSON objects of a list; none of what is no list."""
    return (
        [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    )


def string(value: object) -> str | None:
    """``value`` if it is a string."""
    return value if isinstance(value, str) else None


def string_or_json(arguments: object) -> str:
    """Arguments as JSON text: some upstreams send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
