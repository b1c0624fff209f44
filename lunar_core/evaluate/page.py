"""A route report as one HTML page, which loads nothing. Pure."""

from __future__ import annotations

from html import escape

from lunar_core.evaluate import words
from lunar_core.evaluate.figures import RouteFigures
from lunar_core.evaluate.frontier import draw_svg, points_of

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --line: #c9ced6; --dot: #2563eb; --alone: #b45309 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #14181f; --line: #3b4350; --dot: #7aa5ff; --alone: #f0a35e }
}
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
       color: var(--ink); background: var(--paper) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap }
th { white-space: normal; vertical-align: bottom }
td:last-child { white-space: normal; min-width: 14rem }
svg { margin-top: 1rem; max-width: 44rem; font: 12px system-ui, sans-serif; fill: var(--ink) }
.axis { fill: none; stroke: var(--line) }
.weight circle { fill: var(--dot) }
.baseline circle { fill: var(--alone) }
"""


def page(report: RouteFigures, answers: str = "") -> str:
    """The page. ``answers``: the text on judged answers, if there are any."""
    head, *rows = words.table(report)
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    parts = [
        f"<h1>Does routing help these prompts?</h1><p>{escape(words.title(report))}</p>",
        f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table></div>',
        draw_svg(points_of(report), across=words.ACROSS, up=words.UP),
        f"<p><strong>{escape(words.recommendation(report))}</strong></p>",
        f"<h2>Judged answers</h2><pre>{escape(answers)}</pre>" if answers else "",
        "<h2>What this does not show</h2>",
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in words.notes(report))}</ul>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Route report</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )
