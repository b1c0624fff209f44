"""The sources of answers: the built-in models here, an upstream in ``upstream.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from lunar_core.sandbox.answers import Answer, Draft, Messages, Piece, cut
from lunar_core.sandbox.conversation import PrefixCache, prompt_tokens
from lunar_core.sandbox.generate import generate
from lunar_core.sandbox.usage import Tokens, count

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from lunar_core.sandbox.catalogue import Model

_TEXT_OPTIONS = ("max_tokens", "stop", "n")


@dataclass(frozen=True)
class Task:
    """An answer to generate, for any endpoint."""

    kind: str
    """``chat``, ``text`` or ``router``."""
    name: str
    """The model's name without provider and fault."""
    model: Model | None
    """Its entry in the catalogue; an upstream may have others."""
    messages: Messages
    options: Mapping[str, Any]
    """The request's other fields, as far as the dialect reads them."""
    session: str
    script: Draft | None = None
    """A scripted answer, in place of the rules'."""


def prompt_size(task: Task) -> int:
    """Count the tokens that a task's model reads."""
    if task.kind == "text":
        return count(str(task.messages[0]["content"]))
    return prompt_tokens(task.messages, task.options)


class SourceError(Exception):
    """A source gave no answer, or broke off in the middle of one."""


class Source(Protocol):
    """Generates answers."""

    async def answer(self, task: Task) -> Answer:
        """Return a whole answer. Raises SourceError if there is none."""
        ...

    async def stream(self, task: Task) -> tuple[Tokens, AsyncGenerator[Piece, None]]:
        """Return the prompt's tokens and the pieces. Raises SourceError for a failure before the first piece."""
        ...


class BuiltIn:
    """The deterministic models."""

    def __init__(self) -> None:
        self._cache = PrefixCache()

    async def answer(self, task: Task) -> Answer:
        """Generate by the rule of ``lunar_core.sandbox.generate``."""
        if task.model is None and task.script is None:
            raise LookupError(task.name)
        options = task.options
        if task.kind == "text":
            options = {name: options[name] for name in _TEXT_OPTIONS if name in options}
        choices = generate(task.model, task.messages, options, task.script)
        parts = [token.part for choice in choices for token in choice.tokens]
        cached = self._cache.count_cached(task.session, task.name, task.messages)
        thoughts = parts.count("reasoning_content")
        return Answer(choices, Tokens(prompt_size(task), len(parts), cached, thoughts))

    async def stream(self, task: Task) -> tuple[Tokens, AsyncGenerator[Piece, None]]:
        """Generate the same answer, in pieces."""
        answer = await self.answer(task)
        return replace(answer.tokens, completion=0, reasoning=0), _pieces(answer)


async def _pieces(answer: Answer) -> AsyncGenerator[Piece, None]:
    for piece in cut(answer):
        yield piece
