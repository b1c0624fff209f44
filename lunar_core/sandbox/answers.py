"""Answers before a dialect gives them its form: a draft, written within limits, cut for streams."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lunar_core.sandbox.usage import Tokens, count, pieces

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """One of ``n`` answers: OpenAI's assistant message and why it ended."""

    message: dict[str, Any]
    finish_reason: str
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """What was generated, and how much that was."""

    choices: list[Choice]
    tokens: Tokens


@dataclass(frozen=True)
class Draft:
    """What is to be said: a text, or calls of tools, each a name and its arguments as JSON."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Piece:
    """A step of a stream: what is new in one choice, and how many tokens that took."""

    index: int
    delta: dict[str, Any]
    tokens: int = 0
    reasoning: int = 0
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    counted: Tokens | None = None
    """An upstream's own count of everything so far, where it tells one."""


def write(
    draft: Draft, options: Mapping[str, Any], *, thinking: str = ""
) -> tuple[Choice, int, int]:
    """Write one choice, within its limits; also its tokens, and how many of them were thoughts.

    Args:
        draft: what is to be said or called.
        options: the request's ``max_tokens``, ``stop``, ``logprobs`` and ``tool_choice``.
        thinking: what is thought before, by a model that reasons.
    """
    message: dict[str, Any] = {"role": "assistant", "content": None}
    left = options.get("max_tokens") or options.get("max_completion_tokens")
    thought = 0
    if thinking:
        thinking, is_cut = _limit(thinking, left)
        message["reasoning_content"], thought = thinking, count(thinking)
        left = left - thought if left else left
        if is_cut or left == 0:
            message["content"] = ""
            return Choice(message, "length"), thought, thought
    if draft.calls:
        message["tool_calls"], spent, is_cut = _write_calls(draft.calls, left)
        # OpenAI says "stop" where one function was forced by its name.
        forced = isinstance(options.get("tool_choice"), Mapping)
        reason = "length" if is_cut else "stop" if forced else "tool_calls"
        return Choice(message, reason), thought + spent, thought
    words, is_cut = _limit(_stop(draft.text, options.get("stop") or ()), left)
    message["content"] = words
    logprobs = _logprobs(words, options) if options.get("logprobs") else None
    reason = "length" if is_cut else "stop"
    return Choice(message, reason, logprobs), thought + count(words), thought


def _write_calls(
    calls: Sequence[tuple[str, str]], left: int | None
) -> tuple[list[dict[str, Any]], int, bool]:
    """Write tool calls, a token for each name; also their tokens, and whether a limit cut them."""
    tool_calls: list[dict[str, Any]] = []
    spent, is_cut = 0, False
    for name, arguments in calls:
        rest = left - spent - 1 if left else None
        text, is_cut = ("", True) if rest == 0 else _limit(arguments, rest)
        call_id = f"call_{uuid.uuid4().hex[:24]}"
        function = {"name": name, "arguments": text}
        tool_calls.append({"id": call_id, "type": "function", "function": function})
        spent += 1 + count(text)
        if is_cut:
            break
    return tool_calls, spent, is_cut


def _stop(words: str, stops: Sequence[str]) -> str:
    """End a text before the first stop sequence."""
    ends = [place for stop in stops if stop and (place := words.find(stop)) != -1]
    return words[: min(ends)] if ends else words


def _limit(words: str, most: int | None) -> tuple[str, bool]:
    """End a text after so many tokens; also whether that cut anything off."""
    if not most:
        return words, False
    kept = pieces(words)[:most]
    is_cut = len(kept) < count(words)
    return ("".join(kept).rstrip() if is_cut else words), is_cut


def _logprobs(words: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make log probabilities: -0.01 for the token said, a unit less for each alternative."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {
        "content": [
            {
                **entry(word, -0.01),
                "top_logprobs": [
                    entry(word if rank == 0 else f"{word}~{rank}", -0.01 - rank)
                    for rank in range(options.get("top_logprobs") or 0)
                ],
            }
            for word in pieces(words)
        ],
        "refusal": None,
    }


def cut(answer: Answer) -> Iterator[Piece]:
    """Cut an answer into the pieces of a stream, the choices by turns."""
    streams = [_cut_choice(index, choice) for index, choice in enumerate(answer.choices)]
    for turn in itertools.zip_longest(*streams):
        yield from (piece for piece in turn if piece is not None)


def _cut_choice(index: int, choice: Choice) -> Iterator[Piece]:
    message = choice.message
    for word in pieces(message.get("reasoning_content") or ""):
        yield Piece(index, {"reasoning_content": word}, tokens=1, reasoning=1)
    logprobs = iter((choice.logprobs or {}).get("content", ()))
    for word in pieces(message["content"] or ""):
        logprob = next(logprobs, None)
        content = {"content": [logprob], "refusal": None} if logprob else None
        yield Piece(index, {"content": word}, tokens=1, logprobs=content)
    for number, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        opening = {**call, "index": number, "function": {"name": function["name"], "arguments": ""}}
        yield Piece(index, {"tool_calls": [opening]}, tokens=1)
        for fragment in pieces(function["arguments"]):
            rest = {"index": number, "function": {"arguments": fragment}}
            yield Piece(index, {"tool_calls": [rest]}, tokens=1)
    yield Piece(index, {}, finish_reason=choice.finish_reason)
