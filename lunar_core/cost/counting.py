"""Counts the tokens of a call whose usage the service did not state, as the observed backend books them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lunar_core.observers import Outcome
from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.wire import tokens

_PER_WORD = 1.25


def counted_tokens(outcome: Outcome) -> tuple[int, int] | None:
    """Tokens of the prompt, and of the part of the answer that arrived. None if the prompt is unknown.

    The observed backend books ``max(1, int(1.25 × words of all messages))`` for the prompt of a stream, and the tokens
    of the text itself for the answer.
    """
    if not outcome.params:
        return None
    return prompt_tokens(outcome.params), answer_tokens(outcome.answer())


def prompt_tokens(params: Mapping[str, object]) -> int:
    """The tokens booked for the prompt of a stream: chat's ``messages``, or a text completion's ``prompt``."""
    words = sum(len(text.split()) for text in _prompt_texts(params))
    return max(1, int(_PER_WORD * words))


def answer_tokens(answer: object) -> int:
    """Tokens of the text of an answer, its reasoning and its tool calls; 0 for None."""
    return sum(map(tokens.in_text, _answer_texts(answer)))


def _prompt_texts(params: Mapping[str, object]) -> Iterator[str]:
    prompt = params.get("prompt")
    for text in [prompt] if isinstance(prompt, str) else prompt if isinstance(prompt, list) else []:
        if isinstance(text, str):
            yield text
    messages = params.get("messages")
    for message in messages if isinstance(messages, Iterable) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, (list, tuple)) else [{"text": content}]:
            text = part.get("text") if isinstance(part, Mapping) else part
            if isinstance(text, str):
                yield text


def _answer_texts(answer: object) -> Iterator[str]:
    if isinstance(answer, Completion):
        yield from (choice.text for choice in answer.choices)
    if isinstance(answer, ChatCompletion):
        for choice in answer.choices:
            message = choice.message
            for text in (message.content, message.reasoning_content, message.refusal):
                yield text or ""
            for call in message.tool_calls or ():
                yield call.function.name
                yield call.function.arguments
