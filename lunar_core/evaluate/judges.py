"""Judges that compare two answers: an exact match, a function of yours, or a model that is asked in both orders."""

from __future__ import annotations

import importlib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lunar_core.errors import ConfigurationError
from lunar_core.evaluate.prompts import Prompt

_FORMS = "exact:FIELD, model:NAME or python:MODULE:FUNCTION"


@dataclass(frozen=True)
class ScoreJudge:
    """Marks each answer by itself; the higher mark wins. ``score(fields, answer)`` returns a number or a bool."""

    name: str
    score: Callable[[Mapping[str, Any], str], float]
    field: str | None = None
    """The field that every prompt's row must have."""

    def compare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        """1 if ``candidate`` is better, -1 if ``reference`` is, else 0."""
        fields = {"prompt": prompt.text, **prompt.fields}
        return better(
            *(
                checked_mark(self.name, self.score(fields, answer))
                for answer in (candidate, reference)
            )
        )


def checked_mark(name: str, mark: object) -> float:
    """``mark``, if it is a number. Raises ConfigurationError that names the judge, which may be a caller's function."""
    if isinstance(mark, (int, float)) and math.isfinite(mark):
        return mark
    raise ConfigurationError(f"judge: {name} returned {mark!r}: expected a number")


def better(first: float, second: float) -> int:
    """1 if the first mark is higher, -1 if the second is, else 0."""
    return (first > second) - (first < second)


@dataclass(frozen=True)
class ModelJudge:
    """Asks a model which of two answers is better, in both orders. If its replies disagree: a tie."""

    name: str
    model: str

    def messages(self, prompt: Prompt, first: str, second: str) -> list[dict[str, str]]:
        """The messages to the judging model."""
        question = (
            f"[Question]\n{prompt.text}\n\n[Answer 1]\n{first}\n\n[Answer 2]\n{second}\n\n"
            "Which answer is better? Reply with 1, 2 or 0 (equally good), and nothing else."
        )
        return [
            {"role": "system", "content": "You compare two answers to a question. Be strict."},
            {"role": "user", "content": question},
        ]

    def read(self, forward: str, backward: str) -> int | None:
        """The result of two replies, the second with the answers exchanged. None if one of them is unreadable.

        >>> ModelJudge("model:m", "m").read("1", "2"), ModelJudge("model:m", "m").read("1", "1")
        (1, 0)
        """
        verdicts = [_verdict(reply) for reply in (forward, backward)]
        if None in verdicts:
            return None
        return {("1", "2"): 1, ("2", "1"): -1}.get((str(verdicts[0]), str(verdicts[1])), 0)


Judge = ScoreJudge | ModelJudge
JUDGE_TOKENS = 8
"""The ``max_tokens`` of a judging model."""


def find_judge(words: str) -> Judge:
    """The judge that ``exact:FIELD``, ``model:NAME`` or ``python:MODULE:FUNCTION`` names.

    Raises ConfigurationError.

    >>> find_judge("exact:answer").score({"answer": "Paris"}, " paris. ")
    True
    """
    kind, _, rest = words.partition(":")
    if kind == "exact" and rest:
        return ScoreJudge(
            words, lambda fields, answer: _plain(answer) == _plain(fields[rest]), rest
        )
    if kind == "model" and rest:
        return ModelJudge(words, rest)
    module, _, function = rest.rpartition(":")
    if kind == "python" and module and function:
        return ScoreJudge(words, _find_function(module, function))
    raise ConfigurationError(f"judge: expected {_FORMS}, not {words!r}")


def _find_function(module: str, name: str) -> Callable[[Mapping[str, Any], str], float]:
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"judge: {module}:{name} cannot be loaded: {error}") from None
    if not callable(function):
        raise ConfigurationError(f"judge: {module}:{name} is no function")
    score: Callable[[Mapping[str, Any], str], float] = function
    return score


def _plain(text: object) -> str:
    """``text`` without differences that no reader counts: case, surrounding spaces, a full stop at the end."""
    folded = unicodedata.normalize("NFKC", str(text)).casefold()
    return " ".join(folded.split()).rstrip(".").strip()


def _verdict(reply: str) -> str | None:
    match = re.search(r"\b[012]\b", reply)
    return match[0] if match else None
