"""What a built-in model answers: a pure function of the request, and of what was cached."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox import text
from lunar_core.sandbox.answers import Answer, Draft, write
from lunar_core.sandbox.conversation import attachments, last_prompt, read_text, tool_results
from lunar_core.sandbox.forms import answer_in_form
from lunar_core.sandbox.prompt import PromptValues
from lunar_core.sandbox.prompt_tokens import prompt_tokens
from lunar_core.sandbox.schema import fill
from lunar_core.sandbox.tools import choose
from lunar_core.sandbox.usage import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lunar_core.sandbox.answers import Messages
    from lunar_core.sandbox.catalogue import Model


def generate(
    model: Model | None,
    messages: Messages,
    options: Mapping[str, Any],
    cached: int = 0,
    script: Draft | None = None,
) -> Answer:
    """Answer messages.

    Args:
        model: who answers; a reasoning model thinks aloud first. None: one outside the catalogue.
        messages: as in the request.
        options: the request's other fields, as far as they count: ``max_tokens``, ``stop``,
            ``n``, ``tools``, ``tool_choice``, ``parallel_tool_calls``, ``response_format``,
            ``reasoning_effort``, ``logprobs``, ``top_logprobs``.
        cached: tokens of the prompt that come from a cache.
        script: what to answer instead of what the rules say. Limits and stops hold for it, too.

    Raises:
        ServiceError: 400, if the rules would call a tool with the same arguments for ever.
    """
    reasons = (model and model.reasons) or options.get("reasoning_effort")
    start = " ".join(last_prompt(messages)[0][:500].split()[:12])
    thinking = f"The question is: {start} I weigh it." if reasons else ""
    drafts = [
        write(script or _draft(messages, options, i), options, thinking=thinking)
        for i in range(options.get("n") or 1)
    ]
    reasoning = sum(thought for _, _, thought in drafts)
    written = sum(tokens for _, tokens, _ in drafts)
    tokens = Tokens(prompt_tokens(messages, options), written, cached, reasoning)
    return Answer([choice for choice, _, _ in drafts], tokens)


def _draft(messages: Messages, options: Mapping[str, Any], index: int) -> Draft:
    """Decide by the rules what is said, or which tools are called."""
    if calls := choose(messages, options):
        return Draft(calls=calls)
    prompt, name = last_prompt(messages)
    answer_format = options.get("response_format") or {"type": "text"}
    if answer_format["type"] == "json_schema":
        schema = answer_format["json_schema"].get("schema") or {"type": "object"}
        return Draft(json.dumps(fill(schema, prompt), ensure_ascii=False))
    results = tool_results(messages)
    texts = [read_text(m) for m in reversed(messages) if m["role"] not in ("assistant", "tool")]
    forms = () if results else (answer_in_form(text, prompt) for text in texts)
    if answer := next(filter(None, forms), None):
        return Draft(answer)
    if answer_format["type"] == "json_object":
        return Draft(_json_object(prompt))
    received = attachments(messages)
    front = f"{name}, " * bool(name) + f"I received {received}. " * bool(received)
    words = text.say(prompt, results, front=front)
    return Draft(f"(choice {index + 1}) {words}" if index else words)


def _json_object(prompt: str) -> str:
    """Answer JSON mode, which has no schema: the keys are the quoted words."""
    keys = [word for word in PromptValues(prompt).quoted if word.isidentifier()]
    parts = {key: {"type": "string"} for key in keys or ["answer"]}
    schema = {"type": "object", "properties": parts, "required": list(parts)}
    return json.dumps(fill(schema, prompt), ensure_ascii=False)
