"""The text of a route report: its table, its picture, and its caveats. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from lunar_core.cost.report.words import count_words
from lunar_core.evaluate.figures import RouteFigures
from lunar_core.evaluate.frontier import draw, marks, points_of, weight_name
from lunar_core.evaluate.unmeasured import RULE
from lunar_core.evaluate.weights import WeightResult
from lunar_core.routing import BREAK_TIES
from lunar_core.types.numbers import plain_number

UNKNOWN = "unknown"
ACROSS, UP = "USD for 1,000 answers", "expected error"
_ANSWERS_NOTE = (
    "Whether the answers are good: no answer was looked at. An expected error is the router's own expectation, "
    "from questions that are not yours."
)
FEW = 30
"""Fewer prompts than this get a note that they are few."""


def text(report: RouteFigures) -> str:
    """The whole report for a terminal."""
    parts = [title(report), "", *align(table(report))]
    picture = draw(points_of(report), across=ACROSS, up=UP)
    if picture:
        parts += ["", picture]
    parts += ["", recommendation(report), "", "What this does not show:"]
    return "\n".join([*parts, *(f"- {note}" for note in notes(report))])


def title(report: RouteFigures) -> str:
    """One line on the subject of the report."""
    if report.source == "ledger":
        return (
            f"{count_words(report.prompt_count, 'routed answer')} of a ledger, "
            f"against {report.baseline.model} alone."
        )
    return (
        f"{count_words(report.prompt_count, 'prompt')}, routed but not answered, "
        f"against {report.baseline.model} alone."
    )


def table(report: RouteFigures) -> list[tuple[str, ...]]:
    """The head, a row for each weight, and the baseline's row, without columns in which all is unknown."""
    baseline = report.baseline
    head = (
        "",
        "cost_weight",
        "USD for 1,000",
        f"cost against {baseline.model}",
        "expected error",
        "error at random",
        "tied choices",
        "share by model",
    )
    rows = [
        _row(mark, row)
        for row, mark in zip(report.weights, marks(len(report.weights)), strict=True)
    ]
    alone = ("*", baseline.model, usd(baseline.cost_per_1000), "", _error(baseline.expected_error))
    lines = [head, *rows, (*alone, "", "", "all of them")]
    shown = [
        column
        for column in range(len(head))
        if any(line[column] not in ("", UNKNOWN) for line in lines[1:])
    ]
    return [tuple(line[column] for column in shown) for line in lines]


def _row(mark: str, row: WeightResult) -> tuple[str, ...]:
    shares = ", ".join(f"{model} {share:.0%}" for model, share in row.shares.items())
    return (
        mark,
        weight_name(row.weight),
        usd(row.cost_per_1000),
        UNKNOWN if row.saved is None else _change(row.saved),
        _error(row.expected_error),
        _error(row.shuffled_error),
        UNKNOWN if row.ties is None else f"{row.ties:,}",
        shares,
    )


def usd(cost: Decimal | None) -> str:
    """An amount of a table. Unknown is never 0."""
    return UNKNOWN if cost is None else f"{cost:.4f}"


def _error(error: float | None) -> str:
    return UNKNOWN if error is None else f"{error:.3f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def recommendation(report: RouteFigures) -> str:
    """The recommended weight, or why there is none."""
    best = report.recommended
    if report.source == "ledger":
        return "No weight is named: each weight here was given to other calls."
    if best is None:
        return "No weight can be named: a cost or an expected error is unknown."
    saved = "" if best.saved is None else f", {_against(best.saved, report.baseline.model)}"
    return (
        f"The cheapest weight within {report.within:g} of the best expected error: "
        f"{weight_name(best.weight)} ({usd(best.cost_per_1000)} USD for 1,000 answers{saved})."
    )


def _against(saved: float, model: str) -> str:
    change = _change(saved)
    if change == "0%":
        return f"about as much as {model} alone"
    return f"{change[1:]} {'less' if saved > 0 else 'more'} than {model} alone"


def _change(saved: float) -> str:
    """The change of the cost where the share ``saved`` of it is saved.

    >>> _change(0.5), _change(-2.0), _change(0.001)
    ('-50%', '+200%', '0%')
    """
    percent = round(-100 * saved)
    return f"{percent:+d}%" if percent else "0%"


def notes(report: RouteFigures) -> list[str]:
    """The caveats: what the numbers do not show, each in a sentence or two."""
    words = [
        _ANSWERS_NOTE,
        _cost_note(report),
        _at_random_note(report),
        _unmeasured_note(report),
        _zeros_note(report),
        _ties_note(report),
    ]
    if report.baseline.expected_error is None:
        words.append(
            f"How often {report.baseline.model} would err here: it is no candidate, or the service tells nothing but "
            "the score of the model that it chose."
        )
    if report.source == "ledger":
        words.append(
            "Which weight is best: the calls of one weight are not those of another, and the baseline is priced at "
            "the tokens that other models wrote."
        )
    else:
        words.append(_bill_note(report))
    words.append(_count_note(report))
    if report.failures:
        first = next(iter(report.failures.values()))
        words.append(
            f"{count_words(len(report.failures), 'prompt')} that could not be decided at every weight: left out. "
            f"The first failed with: {first}"
        )
    return [word for word in words if word]


def _cost_note(report: RouteFigures) -> str:
    if report.unpriced:
        return f"A cost for {', '.join(report.unpriced)}: no price is known, and unknown is not 0."
    if report.source == "ledger":
        return "What the baseline would have been billed: it is priced at list prices, the answers as billed."
    return (
        f"A bill. Costs are estimates: prompts counted here, {report.output_tokens} tokens assumed of every answer "
        "of every model, at list prices. Models differ in how much they write."
    )


def _at_random_note(report: RouteFigures) -> str:
    if all(row.shuffled_error is None for row in report.weights):
        return (
            "Whether the router's choice does better than the same mix of models at random, and which choices were "
            "ties: that takes the scores of all models, which the service did not tell."
        )
    return (
        'That choosing prompt by prompt pays: "error at random" is what the router itself expects of the same mix of '
        "models, shuffled. Where the two are close, the saving comes of the mix. And the router judges itself: it "
        "picks what erred least on a topic's few questions, so its own numbers flatter it. Judged answers "
        "(--answers) would test it."
    )


def _unmeasured_note(report: RouteFigures) -> str:
    unmeasured = report.unmeasured
    if unmeasured.prompts is None:
        return "Which prompts are on topics that nobody measured: that takes the scores of all models and the topic."
    return (
        f"Anything about {unmeasured.prompts:,} or more of {count_words(report.prompt_count, 'prompt')}: "
        f"their topics look unmeasured ({RULE})."
        if unmeasured.prompts
        else f"That every topic was measured: none looks unmeasured, but that is {RULE}."
    )


def _zeros_note(report: RouteFigures) -> str:
    zeros = report.unmeasured.zeros
    if not zeros:
        return ""
    return (
        f"Certainty for {count_words(zeros, 'prompt')} with an expected error of 0: it means a few sample "
        "questions that were all answered right."
    )


def _count_note(report: RouteFigures) -> str:
    different = len({prompt.text for prompt in report.prompts}) or report.prompt_count
    if different < FEW:
        return (
            f"Anything firm: {count_words(different, 'different prompt')} {'is' if different == 1 else 'are'} few, "
            "and others may look different."
        )
    return ""


def _ties_note(report: RouteFigures) -> str:
    at_zero = [row for row in report.weights if row.weight == 0 and row.ties]
    if not at_zero:
        return ""
    return (
        f"A reason for {count_words(at_zero[0].ties or 0, 'choice')} at weight 0, where several models tie for the "
        "best: the order of the models decides, often for a dear one. "
        f"A weight of {plain_number(BREAK_TIES)} takes the cheapest of them."
    )


def _bill_note(report: RouteFigures) -> str:
    if report.stated_cost is None:
        return "What the decisions cost: the service stated no cost for them."
    return f"Free decisions: the service stated {report.stated_cost:f} USD for them."
