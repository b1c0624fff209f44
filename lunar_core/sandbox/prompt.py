"""What a prompt offers to fill a form with: its quoted words, its names, its numbers, in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 20_000
"""Characters of a prompt that are looked at; the rest of a longer one is not."""

_WORDS = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.-])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w-])")
_DENIED = re.compile(r"\b(?:no|not|without|don't|never)\s+\w+", re.IGNORECASE)
_QUOTED = re.compile(
    r'"([^"\n]+)"|“([^”\n]+)”|\u2018([^\u2019\n]+)\u2019|「([^」\n]+)」|«([^»\n]+)»|`([^`\n]+)`'
    r"|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)"
)
# [^\W\d_a-z] is a capital letter of any script, or a letter of a script without capitals.
_CAPITAL = r"[^\W\d_a-zà-öø-ÿ]"
_NAME = rf"(?:{_CAPITAL}\.|(?!I\b){_CAPITAL}(?:[\w'’-]|\.(?=\w))*)"
_NAMES = re.compile(rf"(?<=[\w,;:)=]\s)({_NAME}(?:(?:,[ \t]*|[ \t]+){_NAME})*)")


def words(text: str) -> list[str]:
    """Split text or an identifier (``getWeather``, ``get_weather``) into lower-case words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [_stem(word) for word in _WORDS.findall(spaced.lower())]


def _number(text: str) -> int | float:
    """Read a number as prompts write it: ``1,250.75``."""
    digits = text.replace(",", "")
    return float(digits) if "." in digits else int(digits)


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
        self._words = frozenset(words(_DENIED.sub(" ", self.text)))
        self._tokens = [token.strip(".,;:!?'\"()<>") for token in self.text.split()]
        self.quoted = [
            next(filter(None, match.groups()))
            for match in _QUOTED.finditer(self.text)
            if self.text[match.end() : match.end() + 1] != ":"  # That is a key of JSON.
        ]
        names = [name.rstrip(".,'’-") for name in _NAMES.findall(_QUOTED.sub('""', self.text))]
        numbers = map(_number, _NUMBER.findall(self.text))
        self.offers: list[Any] = [*dict.fromkeys([*self.quoted, *names]), *numbers]

    def take(self, fits: Callable[[Any], bool], *, any_word: bool = False) -> Any:
        """Hand out the first value that fits, or any word that does; None where nothing does."""
        values = [*self.offers, *(self._tokens if any_word else ())]
        value = next(filter(fits, values), None)
        if value in self.offers:
            self.offers.remove(value)
        return value

    def mentions(self, name: str) -> bool:
        """Say whether the prompt has a word of this name, without *no* or *not* in front."""
        return not self._words.isdisjoint(words(name))

    def named(self, options: Iterable[object]) -> list[object]:
        """Return the options that the prompt names."""
        spelled = ((option, rf"(?<!\w){re.escape(str(option))}(?!\w)") for option in options)
        return [option for option, word in spelled if re.search(word, self.text, re.IGNORECASE)]
