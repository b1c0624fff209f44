"""Reads the prompts of a report from a file or a list, and checks them all before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lunar_core.batch.rows import RowError, RowId, checked_rows, read_rows
from lunar_core.wire import tokens

Messages = list[Any]  # as the API takes them
_PROMPT_FIELDS = ("id", "prompt", "messages")


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``fields``: the other values of its row, such as a reference answer for a judge."""

    id: RowId
    messages: Messages
    fields: Mapping[str, Any] = field(default_factory=dict)  # JSON

    @property
    def tokens(self) -> int:
        """An estimate of the prompt's tokens."""
        return tokens.in_messages(self.messages)

    @property
    def text(self) -> str:
        """The text of the last message."""
        content = self.messages[-1].get("content")
        return content if isinstance(content, str) else str(content)


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Read the prompts of a file: a ``.jsonl`` of ``{"prompt" | "messages", …}``, else one prompt per line.

    Raises RowError that names the wrong line.
    """
    if Path(path).suffix == ".jsonl":
        return _check_rows(read_rows(path))
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"prompts: {path} cannot be read: {error}") from None
    return _check_rows(
        {
            f"line {number}": {"prompt": line.strip()}
            for number, line in enumerate(lines, 1)
            if line.strip()
        }
    )


def checked_prompts(prompts: Iterable[object]) -> list[Prompt]:
    """Make prompts of texts, or of rows as in a file. Raises RowError that names the first wrong one.

    >>> checked_prompts(["Say hello."])[0].text
    'Say hello.'
    """
    if isinstance(prompts, str):
        raise RowError("prompts: expected a list of prompts, or a path given to read_prompts()")
    return _check_rows(
        {
            f"row {number}": {"prompt": row} if isinstance(row, str) else row
            for number, row in enumerate(prompts, 1)
        }
    )


def _check_rows(rows: Mapping[str, object]) -> list[Prompt]:
    if not rows:
        raise RowError("prompts: there are none")
    calls: dict[str, object] = {}
    fields: list[dict[str, Any]] = []
    for place, row in rows.items():
        if not isinstance(row, Mapping):
            raise RowError(f'{place}: expected an object such as {{"prompt": "hi"}}')
        calls[place] = {
            "id": row.get("id", place),
            **{name: row[name] for name in ("prompt", "messages") if name in row},
        }
        fields.append({name: row[name] for name in row if name not in _PROMPT_FIELDS})
    checked = checked_rows(calls, model="router", max_tokens=None)
    return [
        Prompt(row.id, list(row.keywords["messages"]), values)
        for row, values in zip(checked, fields, strict=True)
    ]
