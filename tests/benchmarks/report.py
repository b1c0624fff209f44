"""The measured figures, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

NOISE = 1.1
"""A smaller factor means nothing, because machines stall."""


@dataclass(frozen=True)
class Row:
    """One figure of ours. ``peers``: theirs, of the same run. ``floor``: that of the framework alone."""

    line: str
    mode: str
    unit: str
    ours: float
    target: float | None
    peers: dict[str, float] = field(default_factory=dict)
    more_is_better: bool = False
    floor: float | None = None

    @property
    def best(self) -> str:
        if not self.peers:
            return "–"
        choose = max if self.more_is_better else min
        name = choose(self.peers, key=lambda peer: self.peers[peer])
        return f"{name} {format_figure(self.peers[name])}"

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "no target"
        worse, better = (
            (self.target, self.ours) if self.more_is_better else (self.ours, self.target)
        )
        if worse <= better:
            return "met"
        exact = self.unit in ("connections", "files", "of 18")
        return "within noise" if worse <= better * NOISE and not exact else "MISSED"


def format_figure(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 or figure == int(figure) else f"{figure:.3g}"


def format_table(rows: list[Row]) -> str:
    head = ["line", "", "ours", "target", "floor", "unit", "best peer", "verdict"]
    cells = [head] + [
        [
            row.line,
            row.mode,
            format_figure(row.ours),
            "–" if row.target is None else format_figure(row.target),
            "–" if row.floor is None else format_figure(row.floor),
            row.unit,
            row.best,
            row.verdict,
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def as_json(rows: list[Row]) -> list[dict[str, object]]:
    return [{**asdict(row), "verdict": row.verdict} for row in rows]
