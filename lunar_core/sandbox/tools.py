"""Which tools a built-in model calls.

The rule: a tool **fits** when the prompt has a word of its name, or two words of its name,
description and parameters together; words of fewer than three letters and :data:`_COMMON` don't
count. All fitting tools are called, in the order in which they are given; with
``parallel_tool_calls: false`` the best one. ``tool_choice`` *required* calls at least one (the
first where none fits), a named function is always called, *none* never; in *auto*, a tool's
result is answered with text. Arguments come from the part of the prompt (split at *and*, *then*
and sentence ends) that speaks of the tool, then from the rest (:mod:`lunar_core.sandbox.schema`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lunar_core.sandbox.prompt import LONGEST, PromptValues, words
from lunar_core.sandbox.schema import fill

_COMMON = frozenset(
    words(
        "a an and any are as at be by call can did do does for from function get give has have how"
        " if in input into is it its list make me my of on one or out output please return set"
        " show tell that the their them then this to tool use used user using value what when"
        " where which who will with you your"
    )
)
_CLAUSE = re.compile(r"\b(?:and then|and|then|also)\b|[;.?!]\s", re.IGNORECASE)


def choose(
    tools: Sequence[Mapping[str, Any]],
    choice: Any,
    prompt: str,
    *,
    parallel: bool,
    answered: bool,
) -> list[tuple[str, str]]:
    """Decide the calls: (name, arguments as JSON text) each.

    Args:
        tools: the request's ``tools``.
        choice: its ``tool_choice``: a word, ``{"type": "function", …}`` or None (*auto*).
        prompt: the text of the last user message.
        parallel: whether several calls are allowed.
        answered: whether the last message is a tool's result.
    """
    prompt = prompt[:LONGEST]
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, Mapping):
        called = [f for f in functions if f["name"] == choice["function"]["name"]]
    elif not functions or choice == "none" or (answered and choice != "required"):
        return []
    else:
        asked = frozenset(words(prompt)) - _COMMON
        scores = [_score(function, asked) for function in functions]
        called = [f for f, score in zip(functions, scores, strict=True) if score >= 2]
        if not parallel and called:
            called = [functions[scores.index(max(scores))]]
        if not called and choice == "required":
            called = functions[:1]
    return [(function["name"], _arguments(function, prompt)) for function in called]


def _score(function: Mapping[str, Any], asked: frozenset[str]) -> int:
    """Two for each word of the name, one for each of the description and the parameters."""
    named = {word for word in words(function["name"]) if len(word) > 2}
    parameters = (function.get("parameters") or {}).get("properties", {})
    told = " ".join(
        [function.get("description") or "", *parameters]
        + [str(p.get("description", "")) for p in parameters.values() if isinstance(p, Mapping)]
    )
    described = {word for word in words(told) if len(word) > 2} - named
    return 2 * len(named & asked) + len(described & asked)


def _arguments(function: Mapping[str, Any], prompt: str) -> str:
    clauses = [clause for clause in _CLAUSE.split(prompt) if clause.strip()]
    best = max(clauses, key=lambda c: _score(function, frozenset(words(c)) - _COMMON), default="")
    several = len(clauses) > 1 and _score(function, frozenset(words(best)) - _COMMON) > 0
    hints = PromptValues(f"{best.strip()}\n{prompt.replace(best, ' ', 1)}" if several else prompt)
    schema = {"type": "object", **(function.get("parameters") or {})}
    return json.dumps(fill(schema, hints), ensure_ascii=False)
