"""The answers of the built-in models: a pure function of the request.

One rule: the first valid answer, the prompt's quoted words, names and numbers before any other.

- **Tools** that have a word of the prompt in their name are called in their order, at once or one by
  one (``parallel_tool_calls: false``), none again before the next user message. ``tool_choice``
  *required* always calls: what fits and is new, else what is new, else the first. Nothing is called
  a third time with the same arguments, since that has no end.
- **JSON**, by a schema or as the prompt shows it, is filled: ``values``.
- **Texts**: ``Say X``: ``X``. ``N words``, ``count to N``: N words. Else a sentence with the tools'
  results, one of ``_SAYINGS``, or one that quotes the prompt.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.answers import Choice, Draft, write
from lunar_core.sandbox.conversation import attachments, last_prompt, read_text, since
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.forms import answer_in_form
from lunar_core.sandbox.prompt import LONGEST, PromptValues, words
from lunar_core.sandbox.values import fill

if TYPE_CHECKING:
    from lunar_core.sandbox.answers import Messages
    from lunar_core.sandbox.catalogue import Model

JSON = Mapping[str, Any]

_COMMON = frozenset(words("and ask call for from get give list make set the use with"))
_COMMAND = re.compile(
    r"(?is)\s*(?:please\s+)?(?:repeat|say|echo|(?:reply|answer|respond) with)\b"
    r"(?:\s+(?:after me|exactly|only|just|the words?))*\s*:?\s*(.+)"
)
_LONG = re.compile(r"(?i)\b(?:count\s+to\s+(\d{1,7})|(\d{1,7})\s+words?)\b")
_FILLER = ["the", "answer", "goes", "on", "until", "it", "has", "what", "you", "asked", "for"]
# Word in the prompt → what is said of it.
_SAYINGS = {
    "haiku": "Moonlight on the wire,\nquiet servers count the night –\none small answer wakes.",
    "prove": "Suppose the claim were false. Take the smallest counterexample; the same argument "
    "then yields a smaller one, which cannot be. So there is none, and the claim holds. ∎",
    "translate": "Le matin est clair, et la réponse est courte.",
    "capital": "Its capital is the city that every atlas names first.",
    "hello": "Hello! How can I help you today?",
}


def generate(
    model: Model | None, messages: Messages, options: JSON, script: Draft | None
) -> list[Choice]:
    """Answer messages ``n`` times; a reasoning model thinks aloud first.

    ``model`` is None outside the catalogue; ``options`` are the request's other fields, as far as
    the dialect reads them; a ``script`` is written within their limits in place of the rule's
    answer. Raises ServiceError (400) if a tool would be called with the same arguments for ever.
    """
    start = " ".join(last_prompt(messages)[0][:500].split()[:12])
    reasons = (model and model.reasons) or options.get("reasoning_effort")
    thinking = f"The question is: {start} I weigh it." if reasons else ""
    drafts = (script or _draft(messages, options, i) for i in range(options.get("n") or 1))
    return [write(draft, options, thinking) for draft in drafts]


def _draft(messages: Messages, options: JSON, index: int) -> Draft:
    """Choose a text or tool calls by the rule."""
    prompt, name = last_prompt(messages)
    if calls := _choose_calls(messages, options, prompt):
        return Draft(calls=calls)
    answer_format = options.get("response_format") or {}
    if answer_format.get("json_schema"):
        return Draft(_fill(answer_format["json_schema"].get("schema") or {}, prompt))
    results = [read_text(m) for m in since("user", messages) if m["role"] == "tool"]
    texts = [read_text(m) for m in reversed(messages) if m["role"] not in ("assistant", "tool")]
    forms = (answer_in_form(text, prompt) for text in texts if not results)
    if answer := next(filter(None, forms), None):
        return Draft(answer)
    if answer_format.get("type") == "json_object":  # The keys are the quoted words.
        keys = [word for word in PromptValues(prompt).quoted if word.isidentifier()] or ["answer"]
        return Draft(_fill({"properties": {key: {} for key in keys}}, prompt))
    received = attachments(messages)
    front = f"{name}, " * bool(name) + f"I received {received}. " * bool(received)
    text = _say(prompt, results, front)
    return Draft(f"(choice {index + 1}) {text}" if index else text)


def _fill(schema: JSON, prompt: str | PromptValues) -> str:
    return json.dumps(fill(schema or {"type": "object"}, prompt), ensure_ascii=False)


def _choose_calls(messages: Messages, options: JSON, prompt: str) -> list[tuple[str, str]]:
    """Choose the calls. Each value of the prompt goes into the arguments of one of them."""
    turn = [call["function"] for m in since("user", messages) for call in m.get("tool_calls") or ()]
    past = [(function["name"], _spell(function["arguments"])) for function in turn]
    values, calls = PromptValues(prompt), []
    for function in _choose_functions(options, prompt, {name for name, _ in past}):
        values = values if values.offers else PromptValues(prompt)
        name, arguments = function["name"], _fill(function.get("parameters") or {}, values)
        if past.count((name, _spell(arguments))) > 1:
            raise ServiceError(
                400,
                f"The sandbox's model has called {name}({arguments}) 2 times for this prompt and"
                " would go on for ever: tool_choice leaves it no way to an answer. Leave tool_choice"
                " out after the first call, or script the answers.",
            )
        calls.append((name, arguments))
    return calls


def _choose_functions(options: JSON, prompt: str, called: set[str]) -> list[JSON]:
    functions = [tool["function"] for tool in options.get("tools") or ()]
    choice, one_by_one = options.get("tool_choice"), options.get("parallel_tool_calls") is False
    if isinstance(choice, Mapping):
        return [f for f in functions if f["name"] == choice["function"]["name"]]
    if choice == "none" or (called and not one_by_one and choice != "required"):
        return []
    prompt_words = {word for word in words(prompt[:LONGEST]) if len(word) > 2} - _COMMON
    new = [function for function in functions if function["name"] not in called]
    fitting = [f for f in new if not prompt_words.isdisjoint(words(f["name"]))]
    if choice == "required":
        fitting = fitting or (new or functions)[:1]
    return fitting[:1] if one_by_one else fitting


def _spell(arguments: str) -> str:
    """Write arguments so that two texts of one JSON value are the same text."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments


def _say(prompt: str, results: Sequence[str], front: str) -> str:
    if command := _COMMAND.match(prompt):
        return command[1].strip().rstrip(".").strip("\"'“”\u2018\u2019`«»「」")
    # The longest prompts are megabytes, so keywords are searched at both ends only.
    ends = f"{prompt[:4000]} {prompt[-4000:]}"
    if long := _LONG.search(ends):
        length = min(int(long[1] or long[2]), 1_000_000)
        stock = map(str, range(1, length + 1)) if long[1] else itertools.cycle(_FILLER)
        return " ".join(itertools.islice(stock, length))
    if results:
        return f"{front}Here is what I found: {' '.join(results)}"
    for word in filter(words(ends).__contains__, _SAYINGS):
        return front + _SAYINGS[word]
    start = " ".join(prompt[:2000].split()[:40])
    return f"{front}You asked: “{start}”. What there is to say of it, a real model knows."
