"""What the built-in models say: the same words for the same prompt, always.

The rule, in order; the prompt is the text of the last user message:

1. ``Repeat: X``, ``Say X``, ``Echo X``, ``Reply with X`` (at the start): ``X`` itself, without
   surrounding quotes or a closing dot.
2. ``N words`` or ``count to N`` anywhere (N ≤ 1,000,000): exactly N words.
3. After a tool's result: a sentence that quotes the result.
4. A word of :data:`_SAYINGS` in the prompt: that saying (the first in the table's order).
5. Else a sentence that quotes the start of the prompt.

Images, files, sounds and the user's name are mentioned in front; choice ``i`` > 0 of ``n``
says so in front.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(
    r"\s*(?:please\s+)?(?:repeat|say|echo|reply with|answer with|respond with)\b"
    r"(?:\s+(?:after me|exactly|only|just|the words?))*\s*:?\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_LONG = re.compile(r"\b(?:count\s+to\s+(\d{1,7})|(\d{1,7})\s+words?)\b", re.IGNORECASE)
_QUOTES = "\"'“”\u2018\u2019`«»「」"

# Word in the prompt → what is said of it. Order decides where several fit.
_SAYINGS: dict[str, str] = {
    "haiku": "Moonlight on the wire,\nquiet servers count the night –\none small answer wakes.",
    "prove": "Suppose the claim were false. Take the smallest counterexample; the same argument "
    "then yields a smaller one, which cannot be. So there is none, and the claim holds. ∎",
    "proof": "Assume the contrary and follow it: both sides would have to be even and odd at once. "
    "The contradiction proves the claim. ∎",
    "translate": "Le matin est clair, et la réponse est courte.",
    "python": "def solve(items):\n    seen = set()\n    return [x for x in items "
    "if not (x in seen or seen.add(x))]",
    "sql": "SELECT customer, SUM(amount) AS total\nFROM orders\nGROUP BY customer\n"
    "ORDER BY total DESC\nLIMIT 10;",
    "code": "Name the three cases, write one small function for each, and test the empty one.",
    "patient": "The findings fit several causes; the dangerous ones come first: rule out "
    "infarction and embolism by ECG, troponin and D-dimer before settling on a benign one.",
    "symptoms": "These symptoms have common and harmless causes, and a few serious ones. See a "
    "doctor soon if they last, worsen, or come with fever.",
    "dose": "The usual adult dose is on the label; adjust it for weight, kidney function and age, "
    "and never double it after a missed one.",
    "contract": "The clause binds only what it names; silence is read against its author.",
    "joke": "Why did the cat sit on the computer? To keep an eye on the mouse.",
    "story": "A cat found a door that had never been there. She waited, as cats do, until "
    "it opened by itself, and on the other side it was still morning.",
    "email": "Dear team,\nthe release is ready and the notes are attached. Please read them before "
    "Friday.\nKind regards",
    "summarize": "In short: one cause, two effects, and a decision that can wait until Monday.",
    "summarise": "In short: one cause, two effects, and a decision that can wait until Monday.",
    "capital": "Its capital is the city that every atlas names first.",
    "weather": "Mild and dry, with a light wind from the west.",
    "hello": "Hello! How can I help you today?",
    "hi": "Hi there! What would you like to know?",
}
_SAYING = re.compile(rf"\b(?:{'|'.join(_SAYINGS)})\b", re.IGNORECASE)


def say(
    prompt: str,
    *,
    tool_results: tuple[str, ...] = (),
    attachments: str = "",
    name: str | None = None,
    choice: int = 0,
) -> str:
    """Answer a prompt by the rule above."""
    front = f"(choice {choice + 1}) " if choice else ""
    if command := _COMMAND.match(prompt):
        words = command[1].strip()
        quoted = words[:1] in _QUOTES
        return front + (words.rstrip(".").strip(_QUOTES) if quoted else words.rstrip("."))
    # The longest prompts are megabytes: words that count are looked for at both ends.
    ends = prompt if len(prompt) <= 8000 else f"{prompt[:4000]} {prompt[-4000:]}"
    if long := _LONG.search(ends):
        return front + _words(long)
    if name:
        front += f"{name}, "
    if attachments:
        front += f"I received {attachments}. "
    if tool_results:
        return front + "Here is what I found: " + " ".join(tool_results)
    seen = {word.lower() for word in _SAYING.findall(ends)}
    for word, saying in _SAYINGS.items():
        if word in seen:
            return front + saying
    start = " ".join(prompt[:2000].split()[:40])
    return (
        f"{front}You asked: “{start}”. That depends on three things:"
        " what is known, what it costs, and when you need it."
    )


def _words(long: re.Match[str]) -> str:
    if long[1]:
        return " ".join(map(str, range(1, min(int(long[1]), 1_000_000) + 1)))
    wanted = min(int(long[2]), 1_000_000)
    stock = ("the", "answer", "goes", "on", "until", "it", "has", "what", "you", "asked", "for")
    return " ".join(stock[i % len(stock)] for i in range(wanted))
