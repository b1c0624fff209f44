"""Charts as SVG: columns, and bars with names. Positions are per cent of the width.

So text keeps its size on a narrow screen; a ``viewBox`` would shrink it. A chart is an image with a title for screen
readers. Its numbers are in the table below it, and in the title of each mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from unicodedata import east_asian_width
from xml.sax.saxutils import escape, quoteattr

from lunar_core.cost.amounts import QUOTIENTS

_COLUMNS_HEIGHT, _SCALE_HEIGHT = 140, 22
_BAR_HEIGHT, _BAR_PITCH = 12, 38
_LONGEST_NAME, _LONGEST_LINE = 28, 44
"""Letters that fit on a screen of 360 px, in all probability: those of East Asia count twice."""


@dataclass(frozen=True)
class Mark:
    """One column or bar: its name, its value, and the value in words."""

    name: str
    value: Decimal
    words: str


def columns(title: str, marks: Sequence[Mark]) -> str:
    """Columns side by side, the first and the last named below, the highest named above."""
    highest = max(marks, key=lambda mark: mark.value)
    width = 100 / len(marks)
    shapes = [
        _rectangle(
            mark,
            x=f"{index * width + width * 0.1:.3f}%",
            y=f"{_SCALE_HEIGHT + _COLUMNS_HEIGHT - height:.1f}",
            width=f"{width * 0.8:.3f}%",
            height=f"{height:.1f}",
        )
        for index, mark in enumerate(marks)
        for height in [_share(mark, highest) * _COLUMNS_HEIGHT]
    ]
    bottom = _SCALE_HEIGHT + _COLUMNS_HEIGHT
    shapes += [
        f'<line class="axis" x1="0" x2="100%" y1="{bottom + 0.5}" y2="{bottom + 0.5}"/>',
        _text(_fit(f"highest: {_label(highest)}", _LONGEST_LINE), "0", 14),
        _text(_fit(marks[0].name), "0", bottom + 17),
    ]
    if len(marks) > 1:
        shapes.append(_text(_fit(marks[-1].name), "100%", bottom + 17, is_end=True))
    return _svg(title, bottom + _SCALE_HEIGHT, shapes)


def bars(title: str, marks: Sequence[Mark]) -> str:
    """Bars below each other, each with its name above it."""
    longest = max(marks, key=lambda mark: mark.value)
    shapes: list[str] = []
    for index, mark in enumerate(marks):
        top = index * _BAR_PITCH
        shapes += [
            _text(_fit(mark.name), "0", top + 14),
            _rectangle(
                mark,
                x="0",
                y=str(top + 20),
                width=f"{_share(mark, longest) * 100:.3f}%",
                height=str(_BAR_HEIGHT),
            ),
        ]
    return _svg(title, len(marks) * _BAR_PITCH, shapes)


def _label(mark: Mark) -> str:
    return f"{_fit(mark.name)}, {mark.words}"


def _fit(text: str, longest: int = _LONGEST_NAME) -> str:
    """``text``, cut to the given room, with an ellipsis."""
    room = longest
    for index, letter in enumerate(text):
        room -= 2 if east_asian_width(letter) in "WF" else 1
        if room < (index + 1 < len(text)):
            return f"{text[:index]}…"
    return text


def _share(mark: Mark, highest: Mark) -> float:
    if highest.value <= 0:
        return 0.0
    return float(QUOTIENTS.divide(max(mark.value, Decimal(0)), highest.value))


def _rectangle(mark: Mark, *, x: str, y: str, width: str, height: str) -> str:
    return (
        f'<rect class="mark" x="{x}" y="{y}" width="{width}" height="{height}">'
        f"<title>{escape(_label(mark))}</title></rect>"
    )


def _text(words: str, x: str, y: float, *, is_end: bool = False) -> str:
    anchor = ' text-anchor="end"' if is_end else ""
    return f'<text x="{x}" y="{y}"{anchor}>{escape(words)}</text>'


def _svg(title: str, height: float, shapes: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label={quoteattr(title)} width="100%" height="{height}">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )
