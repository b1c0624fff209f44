"""Tokens and what they cost.

**One word is one token**: a text has as many tokens as it has runs of characters without
whitespace. So a reader can check every bill by counting words. Each message adds
``PER_MESSAGE``; an image, a file and a sound count as stated in ``PER_PART``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lunar_core.sandbox.catalogue import Model

PER_MESSAGE = 3
PER_PART: Mapping[str, int] = {"image_url": 85, "file": 100, "input_audio": 50}

COST_NAMES = ("input_cost_usd", "output_cost_usd", "cache_input_cost_usd", "total_cost_usd")

_WORD = re.compile(r"\s*\S+\s*")
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Tokens:
    """Token counts: ``prompt``, of which ``cached``, and ``completion``, of which ``reasoning``."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


def count(text: str) -> int:
    """Count the tokens of a text: its words."""
    return len(text.split())


def pieces(text: str) -> list[str]:
    """Cut a text into its tokens, with their whitespace: ``"".join(pieces(t)) == t``."""
    return _WORD.findall(text) or ([text] if text else [])


def costs(tokens: Tokens, model: Model | None) -> dict[str, float]:
    """Price tokens in USD, by the model's prices; {} if the model has none.

    Computed with Decimal. Prices have at most four decimals, so each float prints (``repr``)
    as the exact sum.
    """
    if model is None:
        return {}
    read = (tokens.prompt - tokens.cached) * model.input / _MILLION
    cached = tokens.cached * model.cached / _MILLION
    written = tokens.completion * model.output / _MILLION
    amounts = (read, written, cached, read + written + cached)
    return dict(zip(COST_NAMES, map(float, amounts), strict=True))
