"""What a prompt offers to fill a form with: its numbers, quotations, names and words.

Each number, quotation and phrase is handed out once, in the order of the prompt, so that two
fields don't get the same value while there are others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 20_000
"""Characters of a prompt that are looked at; the rest of a longer one is not."""

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")
_QUOTED = re.compile(
    r'"([^"\n]+)"|“([^”\n]+)”|\u2018([^\u2019\n]+)\u2019|「([^」\n]+)」|«([^»\n]+)»|`([^`\n]+)`'
    r"|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)"
)
_PREPOSITION = r"\b(?:in|at|for|to|of|from|named|called|is|with|by|on)\s+"
# [^\W\d_a-z] is a capital letter of any script, or a letter of a script without capitals.
_NAME = r"[^\W\d_a-zà-öø-ÿ][\w'’.-]*"
_PHRASE = rf"{_NAME}(?:(?:,[ \t]*|[ \t]+){_NAME})*"
_AFTER_PREPOSITION = re.compile(rf"{_PREPOSITION}({_PHRASE})")
_CAPITALISED = re.compile(rf"(?<=[\w,;:)]\s)({_PHRASE})")
_TOPIC = re.compile(r"\b(?:about|regarding|on)\s+([^.?!\n]+)", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+")
_NEGATION = r"(?:no|not|without|don't|never|n't)\s+(?:\w+\s+)?"


def words(text: str) -> list[str]:
    """Split text or an identifier (``getWeather``, ``get_weather``) into lower-case words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [_stem(word) for word in _WORDS.findall(spaced.lower())]


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class PromptValues:
    """The values that a prompt offers, each given once.

    >>> hints = PromptValues("Is it warm in San Francisco, CA on 3 days?")
    >>> hints.phrase(), hints.number(None)
    ('San Francisco, CA', '3')
    """

    def __init__(self, prompt: str) -> None:
        self.text = prompt[:LONGEST].strip()
        self.words = frozenset(words(self.text))
        self._numbers = [n.replace(",", "") for n in _NUMBER.findall(self.text)]
        self._quoted = [_group(match) for match in _QUOTED.finditer(self.text)]
        found = {match.start(1): match[1] for match in _CAPITALISED.finditer(self.text)}
        names = [found[start] for start in sorted(found)]
        preferred = [match[1] for match in _AFTER_PREPOSITION.finditer(self.text)]
        topic = _TOPIC.search(self.text)
        self._topic = topic[1].strip() if topic else None
        self._phrases = list(dict.fromkeys(p.rstrip(".,'’-") for p in [*preferred, *names]))

    def mentions(self, name: str) -> bool:
        """Say whether the prompt has a word of this name (three letters or more), not negated."""
        wanted = [word for word in words(name) if len(word) > 2] or words(name)
        if not wanted or not self.words.intersection(wanted):
            return False
        return not any(
            re.search(rf"\b{_NEGATION}{re.escape(word)}", self.text, re.IGNORECASE)
            for word in wanted
        )

    def assigned(self, name: str) -> str | None:
        """Return what the prompt gives this name: ``name = x``, ``name: x``, ``name is x``."""
        match = re.search(
            rf"\b{_spelled(name)}[\"'`]?\s*(?:=|:|\bis\b)\s*"
            r"(?:\"([^\"]+)\"|'([^']+)'|([^\s,;.?!)][^,;?!\n)]*))",
            self.text,
            re.IGNORECASE,
        )
        if match is None:
            return None
        value = _group(match).strip().rstrip(".")
        for taken in (self._numbers, self._quoted, self._phrases):
            if value in taken:
                taken.remove(value)
        return value

    def number(self, name: str | None, *, whole: bool = False) -> str | None:
        """Return a number: one that stands next to the name, else the next that wasn't used."""
        usable = [n for n in self._numbers if not (whole and "." in n)] or self._numbers
        near = self._number_near(name) if name else None
        taken = near if near in usable else next(iter(usable), None)
        if taken is not None:
            self._numbers.remove(taken)
        return taken

    def numbers(self) -> list[str]:
        """Return all numbers that weren't used."""
        rest, self._numbers = self._numbers, []
        return rest

    def _number_near(self, name: str) -> str | None:
        """Find ``name = 3``, ``name is 3``; of names longer than a variable's also ``3 name``."""
        spelled, number = _spelled(name), r"(-?\d+(?:\.\d+)?)"
        said = rf"\b{spelled}\s*(?:=|:|\bis\b)\s*{number}"
        if len(name) > 2:
            said += rf"|\b{spelled}\s*(?:of\s+)?{number}|{number}\s+{spelled}\b"
        match = re.search(said, self.text, re.IGNORECASE)
        return _group(match) if match else None

    def quotation(self) -> str | None:
        """Return the next quotation that wasn't used."""
        return self._quoted.pop(0) if self._quoted else None

    def quotations(self) -> list[str]:
        """Return all quotations that weren't used."""
        rest, self._quoted = self._quoted, []
        return rest

    def phrase(self) -> str | None:
        """Return the next capitalised phrase, those behind a preposition first."""
        return self._phrases.pop(0) if self._phrases else None

    def topic(self) -> str | None:
        """Return what stands behind *about*, once."""
        topic, self._topic = self._topic, None
        return topic

    def chosen(self, options: Iterable[object]) -> list[object]:
        """Return the options that the prompt names, in the prompt's order."""
        lowered = self.text.lower()
        places: list[tuple[int, object]] = []
        for option in options:
            match = re.search(rf"(?<!\w){re.escape(str(option).lower())}(?!\w)", lowered)
            if match:
                places.append((match.start(), option))
        return [option for _, option in sorted(places, key=lambda place: place[0])]

    def match(self, pattern: str) -> str | None:
        """Return the first stretch of the prompt that a pattern finds."""
        found = re.search(pattern, self.text)
        return found[0] if found else None


def _group(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _spelled(name: str) -> str:
    """Match ``customer_name`` and ``customerName`` also as *customer name*."""
    return r"[\s_-]*".join(re.escape(word) for word in _WORDS.findall(_camel(name)))


def _camel(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
