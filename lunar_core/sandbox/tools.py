"""Which tools a built-in model calls.

The rule: a tool **fits** when the prompt has a word of its name; words of fewer than three letters
and :data:`_COMMON` don't count. Fitting tools are called in the order in which they are given, all
at once, or one after the other with ``parallel_tool_calls: false``. None is called again before the
next user message: the answer is a text. But ``tool_choice`` *required* always calls: the fitting
tools that were not called yet, else the first such tool, else the first of all. A named function is
always called; *none* calls none. Nothing is called a third time with the same arguments, since that
loop would have no end.

Each value of the prompt goes into one call's arguments (:mod:`lunar_core.sandbox.schema`); when all
are used, the next call starts over.
"""

from __future__ import annotations

import json
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
    words("and ask call do for from function get give list make of set tool use with")
)
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
    values = PromptValues(prompt)
    calls = []
    for function in chosen:
        values = values if values.offers else PromptValues(prompt)
        schema = {"type": "object", **(function.get("parameters") or {})}
        name, arguments = function["name"], json.dumps(fill(schema, values), ensure_ascii=False)
        calls.append((name, arguments))
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
    new = [function for function in functions if function["name"] not in called]
    prompt_words = frozenset(words(prompt)) - _COMMON
    fitting = [f for f in new if not prompt_words.isdisjoint(_long_words(f["name"]))]
    one_by_one = options.get("parallel_tool_calls") is False
    if choice == "required":
        fitting = fitting or [*(new or functions)][:1]
    elif called and not one_by_one:
        return []
    return fitting[:1] if one_by_one else fitting


def _long_words(name: str) -> list[str]:
    return [word for word in words(name) if len(word) > 2]
