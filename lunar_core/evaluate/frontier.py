"""Draws the frontier: cost across, expected error up, a point for each weight. As characters or SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lunar_core.evaluate.figures import RouteFigures
from lunar_core.types.numbers import plain_number

NEAR_ACROSS, NEAR_UP = 5.0, 14.0
"""How near two points of the page's picture share a label: per cent of its width, and pixels."""


@dataclass(frozen=True)
class Point:
    """A point. ``across`` and ``up``: the two measures. ``mark``: its character in the terminal."""

    across: float
    up: float
    mark: str
    label: str


def points_of(report: RouteFigures) -> list[Point]:
    """A point for each weight with known cost and error, marked a, b, c, …, and the baseline's, marked *."""
    points = [
        Point(
            float(row.cost_per_1000), row.expected_error, mark, f"weight {weight_name(row.weight)}"
        )
        for row, mark in zip(report.weights, marks(len(report.weights)), strict=True)
        if row.cost_per_1000 is not None and row.expected_error is not None
    ]
    baseline = report.baseline
    if baseline.cost_per_1000 is not None and baseline.expected_error is not None:
        points.append(
            Point(float(baseline.cost_per_1000), baseline.expected_error, "*", baseline.model)
        )
    return points


def marks(count: int) -> list[str]:
    """One character for each of ``count`` points.

    >>> marks(3)
    ['a', 'b', 'c']
    """
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return list(letters[:count])


def weight_name(weight: float | None) -> str:
    """A weight as it is printed.

    >>> weight_name(1e-6), weight_name(20.0), weight_name(None)
    ('0.000001', '20', "the service's own")
    """
    return "the service's own" if weight is None else plain_number(weight)


def draw(
    points: Sequence[Point], *, across: str, up: str, width: int = 56, height: int = 11
) -> str:
    """The picture as characters; "" for fewer than two points. Points at the same place stand side by side.

    ``across`` and ``up``: the names of the axes.
    """
    if len(points) < 2:
        return ""
    left, right = _range([point.across for point in points])
    low, high = _range([point.up for point in points])
    rows = [""] * height
    for point in sorted(points, key=lambda point: point.across):
        column = round((point.across - left) / (right - left) * (width - 1))
        row = round((high - point.up) / (high - low) * (height - 1))
        rows[row] = rows[row].ljust(column) + point.mark
    lines = [f"  {up}"]
    for number, line in enumerate(rows):
        edge = {0: f"{high:7.3f}", height - 1: f"{low:7.3f}"}.get(number, " " * 7)
        lines.append(f"{edge} |{line}".rstrip())
    lines.append(" " * 8 + "+" + "-" * width)
    scale = f"{left:.3f}{across:^{max(1, width - 12)}}{right:.3f}"
    return "\n".join([*lines, " " * 9 + scale])


def draw_svg(points: Sequence[Point], *, across: str, up: str) -> str:
    """The picture as an SVG element, with a title for each point; "" for fewer than two points.

    Horizontal places are per cent, so that text keeps its size on a narrow screen.
    """
    if len(points) < 2:
        return ""
    left, right = _range([point.across for point in points])
    low, high = _range([point.up for point in points])
    shapes = []
    labels: list[tuple[float, float, str]] = []
    for point in points:
        x = 4 + (point.across - left) / (right - left) * 92
        y = 40 + (high - point.up) / (high - low) * 180
        kind = "baseline" if point.mark == "*" else "weight"
        shapes.append(
            f'<g class="{kind}"><title>{escape(point.label)}: {point.across:.4f}, {point.up:.4f}</title>'
            f'<circle cx="{x:.1f}%" cy="{y:.1f}" r="5"/></g>'
        )
        _add_label(labels, x, y, point.label if kind == "baseline" else point.mark)
    for x, y, text in labels:
        anchor = "start" if x < 12 else "end" if x > 88 else "middle"
        shapes.append(
            f'<text x="{x:.1f}%" y="{y - 10:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return (
        f'<svg width="100%" height="280" role="img" aria-label="{escape(up)} against {escape(across)}">'
        '<line class="axis" x1="0" x2="0" y1="24" y2="244"/>'
        '<line class="axis" x1="0" x2="100%" y1="244" y2="244"/>'
        f'<text x="0" y="16">{escape(up)}: {low:.3f} to {high:.3f}</text>'
        f'<text x="100%" y="264" text-anchor="end">{escape(across)}: {left:.3f} to {right:.3f}</text>'
        + "".join(shapes)
        + "</svg>"
    )


def _add_label(labels: list[tuple[float, float, str]], x: float, y: float, text: str) -> None:
    """Add a label. Points whose labels would overlap share one, at the first of them."""
    for number, (near_x, near_y, names) in enumerate(labels):
        if abs(x - near_x) < NEAR_ACROSS and abs(y - near_y) < NEAR_UP:
            labels[number] = (near_x, near_y, f"{names} {text}")
            return
    labels.append((x, y, text))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value, made different if they are equal."""
    least, greatest = min(values), max(values)
    return (least, greatest) if greatest > least else (least - 0.5, greatest + 0.5)
