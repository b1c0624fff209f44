"""What a built-in model answers: a pure function of the request, and of what was cached.

An :class:`Answer` is what was generated, before a dialect gives it its form. Streams are the
same answer, cut into :class:`Piece` by :func:`cut`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox import text
from lunar_core.sandbox.schema import asked_keys, fill, schema_in
from lunar_core.sandbox.tools import choose
from lunar_core.sandbox.usage import PER_MESSAGE, PER_PART, Tokens, count, pieces

if TYPE_CHECKING:
    from lunar_core.sandbox.catalogue import Model

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


@dataclass
class PrefixCache:
    """Remembers prompts that were marked with ``cache_control``, as a provider's cache does.

    The prefix up to the last mark is cached when the same session sent the same prefix to the
    same model before.
    """

    size: int = 10_000
    _seen: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def cached(self, session: str, model: str, messages: Messages) -> int:
        """Return how many tokens of these messages are cached, and remember them."""
        marked = [
            i
            for i, message in enumerate(messages)
            if any(part.get("cache_control") for part in (message, *_parts(message)))
        ]
        if not marked:
            return 0
        prefix = messages[: marked[-1] + 1]
        text = json.dumps([session, model, prefix], sort_keys=True).encode()
        key = hashlib.sha256(text).digest()
        is_cached = key in self._seen
        self._seen[key] = None
        if len(self._seen) > self.size:
            self._seen.popitem(last=False)
        return prompt_tokens(prefix) if is_cached else 0


def prompt_tokens(messages: Messages, options: Mapping[str, Any] | None = None) -> int:
    """Count the tokens of messages, and of the tools and the schema that go with them."""
    total = 0
    for message in messages:
        total += PER_MESSAGE + count(_text(message))
        total += sum(PER_PART.get(part["type"], 0) for part in _parts(message))
        for call in message.get("tool_calls") or ():
            total += 1 + count(call["function"]["arguments"])
    for name in ("tools", "response_format"):
        if options and options.get(name):
            total += count(json.dumps(options[name]))
    return total


def generate(
    model: Model | None,
    messages: Messages,
    options: Mapping[str, Any],
    cached: int = 0,
    script: Draft | None = None,
) -> Answer:
    """Answer messages.

    Args:
        model: who answers; a reasoning model thinks aloud first. None: one outside the catalogue.
        messages: as in the request.
        options: the request's other fields, as far as they count: ``max_tokens``, ``stop``,
            ``n``, ``tools``, ``tool_choice``, ``parallel_tool_calls``, ``response_format``,
            ``reasoning_effort``, ``logprobs``, ``top_logprobs``.
        cached: tokens of the prompt that come from a cache.
        script: what to answer instead of what the rules say. Limits and stops hold for it, too.

    Raises:
        ServiceError: 400, if the rules would call a tool with the same arguments for ever.
    """
    reasons = bool((model and model.reasons) or options.get("reasoning_effort"))
    drafts = [
        _finish(script or _draft(messages, options, i), messages, options, reasons=reasons)
        for i in range(options.get("n") or 1)
    ]
    reasoning = sum(thought for _, _, thought in drafts)
    written = sum(tokens for _, tokens, _ in drafts)
    tokens = Tokens(prompt_tokens(messages, options), written, cached, reasoning)
    return Answer([choice for choice, _, _ in drafts], tokens)


def _draft(messages: Messages, options: Mapping[str, Any], index: int) -> Draft:
    """Decide by the rules what is said, or which tools are called."""
    prompt, name = last_prompt(messages)
    calls = choose(
        options.get("tools") or (),
        options.get("tool_choice"),
        prompt,
        parallel=options.get("parallel_tool_calls") is not False,
        answered=messages[-1]["role"] == "tool",
    )
    return Draft(calls=calls) if calls else Draft(_words(prompt, messages, options, name, index))


def _finish(
    draft: Draft, messages: Messages, options: Mapping[str, Any], *, reasons: bool
) -> tuple[Choice, int, int]:
    """Write one choice, within its limits; also its tokens, and how many of them were thoughts."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    left = options.get("max_tokens") or options.get("max_completion_tokens")
    thought = 0
    if reasons:
        question = f"The question is: {_start(last_prompt(messages)[0])} I weigh it."
        thinking, is_cut = _limit(question, left)
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


def _words(
    prompt: str, messages: Messages, options: Mapping[str, Any], name: str | None, index: int
) -> str:
    answer_format = options.get("response_format") or {"type": "text"}
    if answer_format["type"] == "json_schema":
        value = fill(answer_format["json_schema"].get("schema") or {"type": "object"}, prompt)
        return json.dumps(value, ensure_ascii=False)
    schema = next((s for m in reversed(messages) if (s := schema_in(_text(m)))), None)
    if schema:
        return json.dumps(fill(schema, prompt), ensure_ascii=False)
    if answer_format["type"] == "json_object":
        return json.dumps(asked_keys(prompt), ensure_ascii=False)
    return text.say(
        prompt,
        tool_results=_tool_results(messages),
        attachments=_attachments(messages),
        name=name,
        choice=index,
    )


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
        told = {"content": [logprob], "refusal": None} if logprob else None
        yield Piece(index, {"content": word}, tokens=1, logprobs=told)
    for number, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        opening = {**call, "index": number, "function": {"name": function["name"], "arguments": ""}}
        yield Piece(index, {"tool_calls": [opening]}, tokens=1)
        for fragment in pieces(function["arguments"]):
            rest = {"index": number, "function": {"arguments": fragment}}
            yield Piece(index, {"tool_calls": [rest]}, tokens=1)
    yield Piece(index, {}, finish_reason=choice.finish_reason)


def last_prompt(messages: Messages) -> tuple[str, str | None]:
    """Return the text and the name of the last user message (of the last message, without one)."""
    for message in reversed(messages):
        if message["role"] == "user":
            return _text(message), message.get("name")
    return _text(messages[-1]), None


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in _parts(message) if part["type"] == "text")


def _tool_results(messages: Messages) -> tuple[str, ...]:
    last = list(itertools.takewhile(lambda m: m["role"] == "tool", reversed(messages)))
    return tuple(_text(message) for message in reversed(last))


def _attachments(messages: Messages) -> str:
    """Say how many images, files and sounds came with the last turn."""
    turn: list[Mapping[str, Any]] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            break
        turn += _parts(message)
    names = {"image_url": "image", "file": "file", "input_audio": "sound"}
    counted = [(sum(part["type"] == kind for part in turn), name) for kind, name in names.items()]
    return " and ".join(f"{n} {name}{'s' * (n > 1)}" for n, name in counted if n)


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


def _start(prompt: str) -> str:
    return " ".join(prompt[:500].split()[:12])


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
