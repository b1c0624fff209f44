"""Answers before a dialect gives them its form: written within limits, and cut for streams."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lunar_core.sandbox.usage import Tokens, pieces

Messages = Sequence[Mapping[str, Any]]


class Draft(NamedTuple):
    """The content of an answer: a text, or tool calls, each a name and its arguments as JSON."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()


class Token(NamedTuple):
    """A word of an answer; ``part`` is the field it belongs to, ``call`` the tool call's number."""

    part: str
    text: str
    call: int = 0


class Choice(NamedTuple):
    """One of ``n`` answers: an assistant message in OpenAI's form, and the reason for its end."""

    message: dict[str, Any]
    finish_reason: str
    logprobs: dict[str, Any] | None = None
    tokens: Sequence[Token] = ()
    """The words of the message; () for an upstream's, which comes whole."""


class Answer(NamedTuple):
    """The generated choices, and their token counts."""

    choices: list[Choice]
    tokens: Tokens


@dataclass(frozen=True)
class Piece:
    """A step of a stream: the new part of one choice, and its number of tokens."""

    index: int
    delta: dict[str, Any]
    tokens: int = 0
    reasoning: int = 0
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    counted: Tokens | None = None
    """An upstream's own count of all tokens so far, if it states one."""


def write(draft: Draft, options: Mapping[str, Any], thinking: str = "") -> Choice:
    """Write one choice within the request's ``max_tokens`` and ``stop``, its reasoning first."""
    text = draft.text
    for stop in filter(None, options.get("stop") or ()):
        text = text.partition(stop)[0]
    tokens = [Token("reasoning_content", word) for word in pieces(thinking)]
    for call, (name, arguments) in enumerate(draft.calls):
        tokens.append(Token("name", name, call))
        tokens += [Token("arguments", word, call) for word in pieces(arguments)]
    tokens += [Token("content", word) for word in pieces(text)]
    most = options.get("max_tokens") or options.get("max_completion_tokens") or len(tokens)
    # OpenAI's reason is "stop" if one function was forced by its name.
    is_forced = isinstance(options.get("tool_choice"), Mapping)
    reason = "tool_calls" if draft.calls and not is_forced else "stop"
    if most < len(tokens):
        last = tokens[most - 1]
        tokens[most - 1 :] = [last._replace(text=last.text.rstrip())]
        reason = "length"
    return Choice(_message(tokens), reason, _logprobs(tokens, options), tokens)


def _message(tokens: Sequence[Token]) -> dict[str, Any]:
    def join(part: str, call: int = 0) -> str:
        return "".join(token.text for token in tokens if (token.part, token.call) == (part, call))

    calls = [
        {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": token.text, "arguments": join("arguments", token.call)},
        }
        for token in tokens
        if token.part == "name"
    ]
    thoughts = join("reasoning_content")
    return {
        "role": "assistant",
        "content": None if calls else join("content"),
        **({"reasoning_content": thoughts} if thoughts else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _logprobs(tokens: Sequence[Token], options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Make log probabilities: -0.01 for the token said, a unit less for each alternative."""

    def entry(text: str, rank: int = 0) -> dict[str, Any]:
        token = f"{text}~{rank}" if rank else text
        return {"token": token, "logprob": -0.01 - rank, "bytes": list(token.encode())}

    ranks = range(options.get("top_logprobs") or 0)
    content = [
        {**entry(text), "top_logprobs": [entry(text, rank) for rank in ranks]}
        for part, text, _ in tokens
        if part == "content"
    ]
    return {"content": content, "refusal": None} if options.get("logprobs") and content else None


def cut(answer: Answer) -> Iterator[Piece]:
    """Cut an answer into the pieces of a stream, the choices by turns."""
    streams = [_cut_choice(index, choice) for index, choice in enumerate(answer.choices)]
    for turn in itertools.zip_longest(*streams):
        yield from filter(None, turn)


def _cut_choice(index: int, choice: Choice) -> Iterator[Piece]:
    logprobs = iter((choice.logprobs or {}).get("content", ()))
    for part, text, call in choice.tokens:
        if part in ("name", "arguments"):
            opening = choice.message["tool_calls"][call] if part == "name" else {}
            function = {"name": text, "arguments": ""} if part == "name" else {"arguments": text}
            delta: dict[str, Any] = {
                "tool_calls": [{**opening, "index": call, "function": function}]
            }
        else:
            delta = {part: text}
        logprob = next(logprobs, None) if part == "content" else None
        content = {"content": [logprob], "refusal": None} if logprob else None
        yield Piece(index, delta, 1, int(part == "reasoning_content"), logprobs=content)
    yield Piece(index, {}, finish_reason=choice.finish_reason)
