"""Which tools a built-in model calls.

The rule: a tool **fits** when the prompt has a word of its name, or two words of its name,
description and parameters together; words of fewer than three letters and :data:`_COMMON` don't
count. Fitting tools are called in the order in which they are given, all at once; with
``parallel_tool_calls: false`` one after the other, the best first. None is called again before the
next user message: the answer is a text. But ``tool_choice`` *required* always calls: a fitting tool
that was not called yet, else any such tool, else the best one again. A named function is always
called; *none* calls none. Nothing is called a third time with the same arguments, since that loop
would have no end.

Arguments come from the part of the prompt (split at *and*, *then* and sentence ends) that speaks of
the tool, then from the rest (:mod:`lunar_core.sandbox.schema`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.conversation import last_prompt, past_calls, same_spelling
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.prompt import LONGEST, PromptValues, words
from lunar_core.sandbox.schema import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lunar_core.sandbox.answers import Messages

_COMMON = frozenset(
    words(
        "a an and any are as at be by call can did do does for from function get give has have how"
        " if in input into is it its list make me my of on one or out output please return set"
        " show tell that the their them then this to tool use used user using value what when"
        " where which who will with you your"
    )
)
_CLAUSE = re.compile(r"\b(?:and then|and|then|also)\b|[;.?!]\s", re.IGNORECASE)
_OFTEN = 2
"""How often one call is made with the same arguments for one prompt."""


def choose(messages: Messages, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Decide the calls: (name, arguments as JSON text) each; none where a text is the answer.

    Args:
        messages: the conversation.
        options: the request's ``tools``, ``tool_choice`` and ``parallel_tool_calls``.

    Raises:
        ServiceError: 400, where the same call would be made a third time.
    """
    prompt = last_prompt(messages)[0][:LONGEST]
    past = past_calls(messages)
    functions = [tool["function"] for tool in options.get("tools") or ()]
    chosen = _chosen(functions, options, prompt, {name for name, _ in past})
    calls = [(function["name"], _arguments(function, prompt)) for function in chosen]
    for name, arguments in calls:
        if past.count((name, same_spelling(arguments))) >= _OFTEN:
            raise ServiceError(
                400,
                f"The sandbox's model has called {name}({arguments}) {_OFTEN} times for this prompt"
                " and would go on for ever: tool_choice leaves it no way to an answer. Leave"
                " tool_choice out after the first call, or script the answers.",
            )
    return calls


def _chosen(
    functions: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    prompt: str,
    called: set[str],
) -> list[Mapping[str, Any]]:
    choice = options.get("tool_choice")
    if isinstance(choice, Mapping):
        return [f for f in functions if f["name"] == choice["function"]["name"]]
    if not functions or choice == "none":
        return []
    prompt_words = frozenset(words(prompt)) - _COMMON
    new = [function for function in functions if function["name"] not in called]
    # The best first; of equals, the first (sorting keeps their order).
    ranked = sorted(new or functions, key=lambda f: -_score(f, prompt_words))
    fitting = [function for function in new if _score(function, prompt_words) >= 2]
    one_by_one = options.get("parallel_tool_calls") is False
    if choice != "required" and called and not one_by_one:
        return []
    if not fitting:
        return ranked[:1] if choice == "required" else []
    return ranked[:1] if one_by_one else fitting


def _score(function: Mapping[str, Any], prompt_words: frozenset[str]) -> int:
    """Two for each word of the name, one for each of the description and the parameters."""
    named = {word for word in words(function["name"]) if len(word) > 2}
    parameters = (function.get("parameters") or {}).get("properties", {})
    description = " ".join(
        [function.get("description") or "", *parameters]
        + [str(p.get("description", "")) for p in parameters.values() if isinstance(p, Mapping)]
    )
    described = {word for word in words(description) if len(word) > 2} - named
    return 2 * len(named & prompt_words) + len(described & prompt_words)


def _arguments(function: Mapping[str, Any], prompt: str) -> str:
    clauses = [clause for clause in _CLAUSE.split(prompt) if clause.strip()]
    scores = [_score(function, frozenset(words(clause)) - _COMMON) for clause in clauses]
    values = PromptValues(prompt)
    if len(clauses) > 1 and max(scores) > 0:
        best = clauses[scores.index(max(scores))]
        values = PromptValues(f"{best.strip()}\n{prompt.replace(best, ' ', 1)}")
    schema = {"type": "object", **(function.get("parameters") or {})}
    return json.dumps(fill(schema, values), ensure_ascii=False)
