"""Odd answers that real upstreams were seen to give, and what they mean. One table, for the core and both frameworks.

Each is public: the name says whose habit it is. All of them cost PAID, and come from the model "m-1".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults_steps import DONE, reply, sse

PAID = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "total_cost_usd": 0.001}
HEAD = {"id": "a1", "created": 1, "model": "m-1"}


def piece(finish_reason: object = None, *, index: object = 0, **delta: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    return {**HEAD, "choices": [{"index": index, "finish_reason": finish_reason, "delta": delta}]}


END = {**piece("stop"), "usage": PAID}
CALLED = {**piece("tool_calls"), "usage": PAID}


@dataclass(frozen=True)
class Habit:
    """The chunks of a stream; a plain answer that says the same, usual where only streams are odd; what both mean."""

    chunks: list[dict[str, Any]]
    message: dict[str, Any] = field(default_factory=lambda: {"content": "Hi you"})
    fields: dict[str, Any] = field(default_factory=dict)
    text: str = "Hi you"
    reasoning: str = ""
    call_id: str | None = None
    cost: float | None = 0.001
    tokens: tuple[int | None, int | None] = (3, 2)

    def reply(self, *, streamed: bool) -> Any:
        """The answer, for ``FaultServer.script``."""
        if streamed:
            return sse(*self.chunks, DONE)
        finish_reason = "stop" if self.call_id is None else "tool_calls"
        choice = {"index": 0, "finish_reason": finish_reason, "message": self.message}
        return reply(json={**HEAD, "choices": [choice], "usage": PAID, **self.fields})


def spoken(**usage: Any) -> Habit:
    """An answer in words with other numbers than usual: what is no number says nothing."""
    stated = {**PAID, **usage}
    return Habit(
        [piece(content="Hi you"), {**piece("stop"), "usage": stated}],
        {"content": "Hi you"},
        {"usage": stated},
    )


def without_cost(cost: object) -> Habit:
    stated = spoken(total_cost_usd=cost)
    return Habit(stated.chunks, stated.message, stated.fields, cost=None)


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
FUNCTION = {"name": "f", "arguments": '{"a": 1}'}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}
REMARK = {"id": "", "model": "", "created": 0, "object": ""}


def called(call: object, chunks: list[Any] | None = None, call_id: str = "c1") -> Habit:
    """An answer that calls f(a=1), by ``tool_calls`` of an odd form."""
    return Habit(
        [*(chunks or [piece(tool_calls=call)]), CALLED],
        {"content": None, "tool_calls": call},
        text="",
        call_id=call_id,
    )


HABITS = {
    # Azure's asynchronous filter, between and behind the chunks
    "Azure: remarks on a stream": Habit(
        [
            {**REMARK, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            piece(content="Hi"),
            {**REMARK, "choices": [{"index": 0, "content_filter_offsets": {"check_offset": 2}}]},
            piece(content=" you"),
            END,
            {**REMARK, "choices": [{"index": 0, "finish_reason": None}], "usage": None},
        ]
    ),
    "Mistral: thoughts among the parts of the content": Habit(
        [
            piece(content=[THOUGHT]),
            piece(content=[{"type": "text", "text": "Hi"}]),
            piece(content=" you"),
            END,
        ],
        {"content": [THOUGHT, {"type": "text", "text": "Hi you"}]},
        reasoning="hm",
    ),
    "Groq: usage in a field of its own": Habit(
        [
            {**piece(content="Hi"), "x_groq": {"id": "r1"}},
            piece(content=" you"),
            {**piece("stop"), "x_groq": {"id": "r1", "usage": PAID}},
        ]
    ),
    "vLLM: reasoning by its other name": Habit(
        [piece(reasoning="h"), piece(reasoning="m"), piece(content="Hi you"), END],
        {"content": "Hi you", "reasoning": "hm"},
        reasoning="hm",
    ),
    "Parts without a list, parts that are strings, a number": Habit(
        [
            piece(content={"type": "text", "text": "Hi"}),
            piece(content=[" "]),
            piece(content="you "),
            piece(content=5),
            END,
        ],
        {"content": ["Hi", {"type": "text", "text": " you "}, 5]},
        text="Hi you 5",
    ),
    "Numbers of choices as strings": Habit(
        [
            piece(content="Hi", index="0"),
            piece(content=" you", index="0"),
            {**piece("stop", index="0"), "usage": PAID},
        ]
    ),
    "Choices out of order": Habit(
        [
            piece(content="No", index=1),
            piece(content="Hi you"),
            piece("length", index=1),
            END,
        ]
    ),
    'An empty finish_reason, or "" before the end': Habit(
        [piece("", content="Hi"), piece("", content=" you"), END], {"content": "Hi you"}
    ),
    "The end twice": Habit([piece(content="Hi you"), END, END]),
    "Tokens and cost before the content": Habit(
        [{**HEAD, "choices": [], "usage": PAID}, piece(content="Hi you"), piece("stop")]
    ),
    "Usage in every chunk, as far as it is": Habit(
        [
            {**piece(content="Hi"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
            {**piece(content=" you"), "usage": {"prompt_tokens_details": {"cached_tokens": 0}}},
            END,
        ]
    ),
    "Kimi: usage in a choice": Habit(
        [
            piece(content="Hi you"),
            {
                **HEAD,
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": PAID}],
            },
        ]
    ),
    "Beats without a name, and empty ones": Habit(
        [{"type": "ping"}, piece(content="Hi"), {}, piece(content=" you"), {"type": "ping"}, END]
    ),
    "An error beside the answer that says nothing": Habit(
        [{**piece(content="Hi you"), "error": {"message": "", "code": None}}, END],
        fields={"error": {"message": "", "type": "", "param": "", "code": None}},
    ),
    "Calls beside the words that are none": Habit(
        [piece(content="Hi", tool_calls=[{}]), piece(content=" you", tool_calls={}), END],
        {"content": "Hi you", "tool_calls": [{}, None, "none"]},
    ),
    "Usage in strings": spoken(prompt_tokens="3", total_cost_usd="0.001"),
    "Usage with nulls": Habit(
        [piece(content="Hi you"), {**piece("stop"), "usage": {**PAID, "prompt_tokens": None}}],
        {"content": "Hi you"},
        {"usage": {**PAID, "prompt_tokens": None, "prompt_tokens_details": None}},
        tokens=(None, 2),
    ),
    "A cost of null": without_cost(None),
    "A cost in words": without_cost("free"),
    "A cost below 0": without_cost(-1),
    "A cost of NaN": without_cost(float("nan")),
    "A cost of true": without_cost(True),
    "A time as text, another as a fraction": Habit(
        [{**piece(content="Hi you"), "created": 1.5}, END],
        {"content": "Hi you"},
        {"created": "2026-01-01T00:00:00Z"},
    ),
    "Log probabilities of null": Habit(
        [
            {**HEAD, "choices": [{"index": 0, "delta": {"content": "Hi you"}, "logprobs": None}]},
            END,
        ],
        {"content": "Hi you"},
    ),
    "A role of null, or none": Habit(
        [piece(content="Hi", role=None), piece(content=" you", role=""), END],
        {"content": "Hi you", "role": None},
    ),
    "Arguments as an object": called([{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]),
    "Null beside a call": called([None, CALL]),
    "A call without a list": called(CALL),
    "Cloudflare: a function's fields beside the id": called([{"id": "c1", **FUNCTION}]),
    "An id that is a number": called([{**CALL, "id": 7}], call_id="7"),
    "Arguments twice": called(
        [{**CALL, "function": {"name": "f", "arguments": '{"a": 1}{"a":1}'}}]
    ),
    "An empty object before the arguments": called(
        [{**CALL, "function": {"name": "f", "arguments": '{}{"a": 1}'}}]
    ),
    "An empty piece of another call": called([CALL, {"index": 1, "function": {"arguments": ""}}]),
    "A call's number as a string, its arguments in pieces": called(
        [CALL],
        [
            piece(tool_calls=[{"index": "0", **CALL, "function": {"name": "f", "arguments": ""}}]),
            piece(tool_calls=[{"index": "0", "function": {"arguments": '{"a":'}}]),
            piece(tool_calls=[{"index": "0", "function": {"arguments": " 1}"}}]),
        ],
    ),
}

each_habit = pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS)
