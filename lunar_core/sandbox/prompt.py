"""Finds the values in a prompt for its answer: quoted words, names, codes and numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 20_000
"""The most characters of a prompt that are read."""

_QUOTED = re.compile(r"""(?<!\w)["“\u2018'`«「]([^\n"“”`«»「」]{1,200}?)["”\u2019'`»」](?![\w:])""")
_NUMBER = re.compile(r"(?<![\w.-])-?[0-9]{1,15}(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w-])")
# A capital of any script, or a letter of a script without capitals, in the middle of a sentence.
_WORD = r"(?!I\b)[^\W\d_a-zà-öø-ÿ](?:[\w'\u2019-]|\.(?=\w))*"
_NAME = re.compile(rf"(?<=[\w,;:)=]\s)({_WORD}(?:,?[ \t]+{_WORD})*)")
_CODE = re.compile(r"(?<![\w@:/.+-])(?=\w\S{0,99}[\d@])\w+(?:[@:/.+-]+\w+)+")


def words(text: str) -> list[str]:
    """Split a text or an identifier (``getWeather``) into words: small ones, without plural."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower()
    return [re.sub(r"(?<=\w\w[^\Ws])s$", "", word) for word in re.findall(r"[^\W_]+", spaced)]


class PromptValues:
    """The values that a prompt offers, each given once.

    >>> PromptValues("Is it warm in San Francisco, CA on 3 days?").offers
    ['San Francisco, CA', 3]
    """

    def __init__(self, prompt: str) -> None:
        self.text = prompt[:LONGEST].strip()
        self.quoted: list[str] = _QUOTED.findall(self.text)
        names = _NAME.findall(_QUOTED.sub('""', self.text))
        digits = [number.replace(",", "") for number in _NUMBER.findall(self.text)]
        numbers = [float(number) if "." in number else int(number) for number in digits]
        texts = dict.fromkeys([*self.quoted, *names, *_CODE.findall(self.text)])
        self.offers: list[Any] = [*texts, *numbers]

    def take(self, fits: Callable[[Any], bool]) -> Any:
        """Remove and return the first value that fits; None if none does."""
        value = next(filter(fits, self.offers), None)
        if value is not None:
            self.offers.remove(value)
        return value

    def find_named(self, options: Iterable[object]) -> list[object]:
        """Return the options that the prompt names."""
        spelled = ((option, rf"(?<!\w){re.escape(str(option))}(?!\w)") for option in options)
        return [option for option, word in spelled if re.search(word, self.text, re.IGNORECASE)]
