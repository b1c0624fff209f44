"""Reads the rows of a batch from JSON lines, and checks them all before anything is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from lunar_core import routing
from lunar_core.client.planner import CallOverrides
from lunar_core.errors import ConfigurationError
from lunar_core.wire import api_requests
from lunar_core.wire.keywords import check_no_settings

RowId = str | int
FORM = '{"id": 1, "prompt": "hi"}'
"""An example of a row, for errors."""
ANSWER_OPTIONS = {"stream", "stream_usage"}


class RowError(ConfigurationError):
    """A row that cannot be sent. The message names it: "line 3" of a file, "row 3" of a list."""


@dataclass(frozen=True)
class Row:
    """One call to make. ``keywords``: of ``chat.completions.create``."""

    id: RowId
    keywords: Mapping[str, Any]


def read_rows(path: str | os.PathLike[str]) -> dict[str, object]:
    """Read the rows of a file of JSON lines, by their places (``line 3``). Empty lines are skipped.

    Raises RowError that names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"rows: {path} cannot be read: {error}") from None
    rows: dict[str, object] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows[f"line {number}"] = json.loads(line)
        except ValueError as error:
            raise RowError(
                f'line {number}: no JSON: {error}. A line is like {{"id": 1, "prompt": "hi"}}'
            ) from None
        except RecursionError:
            raise RowError(f"line {number}: nested too deeply") from None
    return rows


def checked_rows(rows: Mapping[str, object], *, model: str, max_tokens: int | None) -> list[Row]:
    """Make calls of ``rows``, a mapping of places to rows. Raises RowError for the first wrong one."""
    checked: list[Row] = []
    places: dict[RowId, str] = {}
    for place, row in rows.items():
        try:
            call = _check_row(row, model, max_tokens)
        except ConfigurationError as error:
            raise RowError(f"{place}: {error.message}") from None
        if call.id in places:
            raise RowError(f"{place}: id: {call.id!r} is that of {places[call.id]}, too")
        places[call.id] = place
        checked.append(call)
    return checked


def _check_row(row: object, model: str, max_tokens: int | None) -> Row:
    if not isinstance(row, Mapping):
        raise ConfigurationError(f"expected an object such as {FORM}")
    keywords = dict(row)
    row_id = keywords.pop("id", None)
    if not is_row_id(row_id):
        raise ConfigurationError(
            f"id: expected a string or a whole number that no other row has, as in {FORM}"
        )
    if ("prompt" in keywords) == ("messages" in keywords):
        raise ConfigurationError(f"prompt or messages: expected one of the two, as in {FORM}")
    if "prompt" in keywords:
        prompt = keywords.pop("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ConfigurationError("prompt: expected a text that is not empty")
        keywords["messages"] = [{"role": "user", "content": prompt}]
    for name in ANSWER_OPTIONS & keywords.keys():
        raise ConfigurationError(f"{name}: a batch reads whole answers")
    keywords.setdefault("model", model)
    if max_tokens is not None:
        keywords.setdefault("max_tokens", max_tokens)
    _check_call(keywords)
    return Row(row_id, keywords)


def is_row_id(value: object) -> TypeGuard[RowId]:
    """Whether ``value`` can be the id of a row. True is none: it would pass for 1."""
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _check_call(keywords: Mapping[str, Any]) -> None:
    """Make the checks that the call itself makes. Raises ConfigurationError."""
    check_no_settings(keywords)
    CallOverrides.parse(keywords)
    params = api_requests.clean(
        {name: value for name, value in keywords.items() if name not in api_requests.OPTIONS}
    )
    api_requests.chat(params)
    if routing.is_routed(params):
        api_requests.router(routing.decide_params(params))
