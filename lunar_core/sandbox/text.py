"""What the built-in models say where nothing asks for a form: the same words for the same prompt.

The rule, in order; the prompt is the text of the last user message:

1. ``Repeat: X``, ``Say X``, ``Echo X``, ``Reply with X`` (at the start): ``X`` itself, without
   surrounding quotes or a closing dot.
2. ``N words`` or ``count to N`` anywhere (N ≤ 1,000,000): exactly N words.
3. After a tool's result: a sentence that quotes the result.
4. A word of :data:`_SAYINGS` in the prompt: that saying (the first in the table's order).
5. Else a sentence that quotes the start of the prompt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMAND = re.compile(
    r"\s*(?:please\s+)?(?:repeat|say|echo|reply with|answer with|respond with)\b"
    r"(?:\s+(?:after me|exactly|only|just|the words?))*\s*:?\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_LONG = re.compile(r"\b(?:count\s+to\s+(\d{1,7})|(\d{1,7})\s+words?)\b", re.IGNORECASE)
_QUOTES = "\"'“”\u2018\u2019`«»「」"
_FILLER = ["the", "answer", "goes", "on", "until", "it", "has", "what", "you", "asked", "for"]
# Word in the prompt → what is said of it. Order decides where several fit.
_SAYINGS = {
    "haiku": "Moonlight on the wire,\nquiet servers count the night –\none small answer wakes.",
    "prove": "Suppose the claim were false. Take the smallest counterexample; the same argument "
    "then yields a smaller one, which cannot be. So there is none, and the claim holds. ∎",
    "translate": "Le matin est clair, et la réponse est courte.",
    "capital": "Its capital is the city that every atlas names first.",
    "hello": "Hello! How can I help you today?",
}


def say(prompt: str, tool_results: Sequence[str] = (), *, front: str = "") -> str:
    """Answer a prompt by the rule above; ``front`` goes before what is not word for word (1, 2)."""
    if command := _COMMAND.match(prompt):
        text = command[1].strip()
        return text.rstrip(".").strip(_QUOTES if text[:1] in _QUOTES else "")
    # The longest prompts are megabytes: words that count are looked for at both ends.
    ends = prompt if len(prompt) <= 8000 else f"{prompt[:4000]} {prompt[-4000:]}"
    if long := _LONG.search(ends):
        length = min(int(long[1] or long[2]), 1_000_000)
        stock = range(1, length + 1) if long[1] else (_FILLER * (length // 10 + 1))[:length]
        return " ".join(map(str, stock))
    if tool_results:
        return f"{front}Here is what I found: {' '.join(tool_results)}"
    for word, saying in _SAYINGS.items():
        if re.search(rf"\b{word}\b", ends, re.IGNORECASE):
            return front + saying
    start = " ".join(prompt[:2000].split()[:40])
    return f"{front}You asked: “{start}”. What there is to say of it, a real model knows."
