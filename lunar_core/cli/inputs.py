"""The inputs of a question: the prompt, checked before it is paid for, and options that commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lunar_core import ConfigurationError
from lunar_core.wire.model_facts import ROUTED

ROUTER = "router"


def complete_model(incomplete: str) -> list[str]:
    """Model names for a shell's completion: the router and its models. Without any request."""
    return [name for name in (ROUTER, *ROUTED) if name.startswith(incomplete)]


Prompt = Annotated[str, typer.Argument(help="What to ask; - reads it from stdin.")]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        help="A model the router may choose; give it at least twice.",
        autocompletion=complete_model,
    ),
]
CostWeight = Annotated[
    float | None, typer.Option(help="0 ignores cost (the default); higher prefers cheaper models.")
]


def read_prompt(prompt: str) -> str:
    """``prompt`` itself, or the text of stdin if it is ``-``.

    Raises ConfigurationError for an empty prompt: the service would accept it, and bill the answer.
    """
    text = _read_stdin() if prompt == "-" else prompt
    if not text.strip():
        raise ConfigurationError(
            "prompt: is empty, and its answer would be billed all the same. Give a text, or - and one on stdin"
        )
    return text


def checked_candidates(names: list[str] | None) -> list[str] | None:
    """The candidates, or None for all. Raises ConfigurationError, which names the option, for a single one."""
    if names and len(names) == 1:
        raise ConfigurationError(
            "--candidate: a choice needs at least 2 models; give the option once for each"
        )
    return names or None


def messages_of(prompt: str, system: str | None = None) -> list[dict[str, object]]:
    """A conversation of the system instructions, if any, and ``prompt``."""
    question: dict[str, object] = {"role": "user", "content": prompt}
    return [*instructions_of(system), question]


def instructions_of(system: str | None) -> list[dict[str, object]]:
    """The system instructions as messages."""
    return [] if system is None else [{"role": "system", "content": system}]


def _read_stdin() -> str:
    if sys.stdin is None:  # it was closed by `<&-`
        return ""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"prompt: stdin is not text in {error.encoding}") from None
