"""What a prompt offers to fill a form with: its quoted words, its names, its numbers, in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 20_000
"""Characters of a prompt that are looked at; the rest of a longer one is not."""

_WORDS = re.compile(r"[^\W_]+")
NUMBER = re.compile(r"(?<![\w.-])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w-])")
_QUOTED = re.compile(
    r'"([^"\n]+)"|“([^”\n]+)”|\u2018([^\u2019\n]+)\u2019|「([^」\n]+)」|«([^»\n]+)»|`([^`\n]+)`'
    r"|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)"
)
# [^\W\d_a-z] is a capital letter of any script, or a letter of a script without capitals.
_CAPITAL = r"[^\W\d_a-zà-öø-ÿ]"
_NAME = rf"(?:{_CAPITAL}\.|(?!I\b){_CAPITAL}(?:[\w'’-]|\.(?=\w))*)"
_NAMES = re.compile(rf"(?<=[\w,;:)]\s)({_NAME}(?:(?:,[ \t]*|[ \t]+){_NAME})*)")


def words(text: str) -> list[str]:
    """Split text or an identifier (``getWeather``, ``get_weather``) into lower-case words."""
    return [_stem(word) for word in _WORDS.findall(_spaced(text).lower())]


def as_number(text: str) -> int | float:
    """Read a number as prompts write it: ``1,250.75``."""
    digits = text.replace(",", "")
    return float(digits) if "." in digits else int(digits)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class PromptValues:
    """The values that a prompt offers, each given once.

    >>> values = PromptValues("Is it warm in San Francisco, CA on 3 days?")
    >>> values.offers
    ['San Francisco, CA', 3]
    """

    def __init__(self, prompt: str) -> None:
        self.text = prompt[:LONGEST].strip()
        self.words = frozenset(words(self.text))
        self.tokens = [token.strip(".,;:!?'\"()<>") for token in self.text.split()]
        self.quoted = [next(filter(None, match.groups())) for match in _QUOTED.finditer(self.text)]
        names = [name.rstrip(".,'’-") for name in _NAMES.findall(_QUOTED.sub('""', self.text))]
        numbers = map(as_number, NUMBER.findall(self.text))
        self.offers: list[Any] = [*dict.fromkeys([*self.quoted, *names]), *numbers]

    def take(self, name: str, fits: Callable[[Any], bool], *, tokens: bool = False) -> Any:
        """Hand out the first value that fits; None where none does.

        What the prompt says the name is comes first, then what it offers, then, if ``tokens`` are
        allowed, any of its words.
        """
        assigned = self.assigned(name)
        number = NUMBER.match(assigned or "")
        values = [assigned, number and as_number(number[0]), *self.offers]
        values += self.tokens if tokens else []
        value = next((value for value in values if value is not None and fits(value)), None)
        if value in self.offers:
            self.offers.remove(value)
        return value

    def mentions(self, name: str) -> bool:
        """Say whether the prompt has a word of this name (of three letters, if it has any)."""
        parts = words(name)
        return bool(self.words.intersection([part for part in parts if len(part) > 2] or parts))

    def denies(self, name: str) -> bool:
        """Say whether the prompt has *no*, *not* or *without* in front of the name."""
        negation = r"\b(?:no|not|without|don't|never)\s+(?:\w+\s+)?"
        return bool(re.search(negation + _spelled(name), self.text, re.IGNORECASE))

    def assigned(self, name: str) -> str | None:
        """Return what the prompt says the name is: ``name = x``, ``name: x``, ``name is x``."""
        value = r"\"([^\"]+)\"|'([^']+)'|([^\s,;?!)}\"'][^,;?!)}\"\n]*)"
        pattern = rf"\b{_spelled(name)}[\"'`]?\s*(?:=|:|\bis\b)\s*(?:{value})"
        match = re.search(pattern, self.text, re.IGNORECASE) if name else None
        return next(filter(None, match.groups())).strip().rstrip(".") if match else None

    def named(self, options: Iterable[object]) -> list[object]:
        """Return the options that the prompt names, in the prompt's order."""
        places: list[tuple[int, object]] = []
        for option in options:
            pattern = rf"(?<!\w){re.escape(str(option))}(?!\w)"
            if match := re.search(pattern, self.text, re.IGNORECASE):
                places.append((match.start(), option))
        return [option for _, option in sorted(places, key=lambda place: place[0])]


def _spelled(name: str) -> str:
    """Match ``customer_name`` and ``customerName`` also as *customer name*."""
    return r"[\s_-]*".join(re.escape(word) for word in _WORDS.findall(_spaced(name))) or r"(?!)"
