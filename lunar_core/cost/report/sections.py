"""The contents of the page in order: sections of notes, charts and tables. Pure data for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from lunar_core.cost.figures import MOST_ROWS, Key
from lunar_core.cost.report import charts
from lunar_core.cost.report.contents import Contents
from lunar_core.cost.report.periods import periods_of
from lunar_core.cost.report.text_form import dropped_words, savings_words
from lunar_core.cost.report.times import distribution, percentile, seconds
from lunar_core.cost.report.words import (
    cost_words,
    count_words,
    estimate_head,
    estimate_words,
    shown_name,
    usd,
)
from lunar_core.cost.savings import ModelSavings, add_up_models
from lunar_core.cost.totals import Sums, Totals


@dataclass(frozen=True)
class Table:
    """A table. ``names``: how many columns at the left are names; the rest are numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


@dataclass
class Section:
    """A part of the page under its own heading."""

    title: str
    notes: list[str] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def sections_of(report: Contents) -> list[Section]:
    """All sections that have contents."""
    sections = [
        _over_time(report),
        *(_by_name(report, index) for index in range(len(report.by))),
        _by_all_names(report),
        _routing(report),
        _times(report),
        _failures(report),
        _budgets(report),
    ]
    return [section for section in sections if section is not None]


def facts_of(report: Contents) -> list[tuple[str, str]]:
    """The totals as pairs of label and value."""
    total = report.total
    facts = [
        ("Cost", cost_words(total)),
        ("Calls", f"{total.calls:,}"),
        ("Tokens in", f"{total.prompt_tokens:,}"),
        ("Tokens out", f"{total.completion_tokens:,}"),
    ]
    if total.unpriced:
        facts.append(("Answers without a stated cost", f"{total.unpriced:,}"))
    if total.unpriced > total.unknown:
        head = estimate_head(report.estimate_sources)
        facts.append((head.capitalize(), estimate_words(total)))
    if total.saved:
        facts.append(("Saved by caches", usd(total.saved)))
    if report.savings is not None:
        facts.append(("Saved by routing", usd(report.savings.saved)))
    return facts


def notes_of(report: Contents) -> list[str]:
    """Notes that the reader of the totals must know."""
    notes = []
    if report.total.unpriced:
        notes.append(
            f"{count_words(report.total.unpriced, 'answer')} came without a stated cost, so that what was spent is "
            "at least the sum shown. Estimates are never part of it."
        )
    if report.dropped:
        notes.append(dropped_words(report.dropped))
    return notes


# Spend over time


def _over_time(report: Contents) -> Section | None:
    if not report.figures.hours:
        return None
    unit, periods = periods_of(report.figures.hours)
    rows = [(name, sums.totals()) for name, sums in periods]
    section = Section(f"Spend by {unit}", notes=["Times are in UTC."])
    marks = [charts.Mark(name, totals.cost, cost_words(totals)) for name, totals in rows]
    if report.total.cost:
        section.charts.append(charts.columns(f"Cost in USD by {unit}", marks))
    parts = [rows[start : start + MOST_ROWS] for start in range(0, len(rows), MOST_ROWS)]
    for number, part in enumerate(parts, 1):
        place = f", part {number} of {len(parts)}" if len(parts) > 1 else ""
        head, cells = _spend(
            report, [((name,), totals) for name, totals in part], [unit.capitalize()]
        )
        section.tables.append(Table(f"Cost by {unit}{place}", head, cells))
    return section


# Groups


def _by_name(report: Contents, index: int) -> Section:
    """A section for one name of ``by``, summed over the values of the others."""
    name = shown_name(report.by[index])
    grouped: dict[str | None, Sums] = {}
    for key, totals in report.rows:
        sums = Sums.of(totals)
        grouped[key[index]] = grouped[key[index]].plus(sums) if key[index] in grouped else sums
    rows = [((value,), sums.totals()) for value, sums in grouped.items()]
    rows.sort(key=lambda row: (row[1].cost.copy_negate(), -row[1].calls, row[0][0] or ""))
    section = Section(f"By {name}")
    if report.total.cost:
        marks = [
            charts.Mark(shown_name(value), totals.cost, cost_words(totals))
            for (value,), totals in rows[:MOST_ROWS]
        ]
        section.charts.append(charts.bars(f"Cost in USD by {name}", marks))
    head, cells = _spend(report, rows, [name])
    section.tables.append(Table(f"Cost by {name}", head, cells))
    return section


def _by_all_names(report: Contents) -> Section | None:
    if len(report.by) < 2:
        return None
    names = [*map(shown_name, report.by)]
    names_words = " and ".join(names)
    head, cells = _spend(report, report.rows, names)
    table = Table(f"Cost by {names_words}", head, cells, len(names))
    return Section(f"By {names_words}", tables=[table])


def _spend(
    report: Contents, rows: Sequence[tuple[Key, Totals]], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The head and rows of a table of costs. Rows after the first MOST_ROWS are added up."""
    has_estimates = report.total.unpriced > report.total.unknown
    has_saved = report.total.saved > 0
    head = [*names, "Cost"]
    head += [estimate_head(report.estimate_sources).capitalize()] * has_estimates
    head += ["Saved by caches"] * has_saved + ["Calls", "Tokens in", "Tokens out"]

    def cells(key: Sequence[str], totals: Totals) -> list[str]:
        counts = (totals.calls, totals.prompt_tokens, totals.completion_tokens)
        shown = [*key, cost_words(totals), *[estimate_words(totals)] * has_estimates]
        shown += [usd(totals.saved)] * has_saved
        return shown + [f"{count:,}" for count in counts]

    shown = [cells([shown_name(part) for part in key], totals) for key, totals in rows[:MOST_ROWS]]
    rest = rows[MOST_ROWS:]
    if rest:
        first = [f"{len(rest):,} others", *[""] * (len(names) - 1)]
        shown.append(cells(first, report.add_up(rest)))
    return head, shown


# Routing


def _routing(report: Contents) -> Section | None:
    if report.savings is None:
        return None
    models = sorted(
        report.figures.savings.models.items(), key=lambda item: (-item[1].calls, item[0])
    )
    rows = [_routing_row(shown_name(name), item) for name, item in models[:MOST_ROWS]]
    if models[MOST_ROWS:]:
        rest = [item for _name, item in models[MOST_ROWS:]]
        rows.append(_routing_row(f"{len(rest):,} others", add_up_models(rest)))
    marks = [
        charts.Mark(shown_name(name), Decimal(item.calls + item.left_out), rows[index][1])
        for index, (name, item) in enumerate(models[:MOST_ROWS])
    ]
    head = ["Chosen model", "Answers", "Compared", "Their cost", "On the baseline", "Saved"]
    return Section(
        "Routing",
        notes=savings_words(report.savings),
        charts=[charts.bars("Routed answers by the model that was chosen", marks)],
        tables=[Table("Routed answers, by the model that was chosen", head, rows)],
    )


def _routing_row(name: str, item: ModelSavings) -> list[str]:
    counts = [f"{item.calls + item.left_out:,}", f"{item.calls:,}"]
    return [name, *counts, usd(item.actual), usd(item.baseline_cost), usd(item.saved)]


# Times and failures


def _times(report: Contents) -> Section | None:
    kinds = {"Latency": report.figures.latency, "First token": report.figures.first_token}
    kinds = {name: counts for name, counts in kinds.items() if counts}
    if not kinds:
        return None
    section = Section("Latency and first token")
    rows = [_percentiles(name, counts) for name, counts in kinds.items()]
    head = ["Time", "Calls", "p50", "p90", "p99", "Longest"]
    section.tables.append(Table("Half of the calls took at most p50", head, rows))
    for name, counts in kinds.items():
        parts = distribution(counts)
        marks = [charts.Mark(words, Decimal(count), f"{count:,}") for words, count in parts]
        section.charts.append(charts.columns(f"{name}: how many calls took how long", marks))
        shown = [[words, f"{count:,}"] for words, count in parts]
        section.tables.append(Table(f"{name}, distribution", ["Time", "Calls"], shown))
    return section


def _percentiles(name: str, counts: Counter[int]) -> list[str]:
    shares = [seconds(percentile(counts, share)) for share in (50, 90, 99)]
    return [name, f"{counts.total():,}", *shares, seconds(max(counts))]


def _failures(report: Contents) -> Section | None:
    failures = report.figures.failures
    if not failures:
        return None
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or ""))
    rows = [
        [shown_name(status), shown_name(error), f"{count:,}"]
        for (status, error), count in ordered[:MOST_ROWS]
    ]
    rest = ordered[MOST_ROWS:]
    if rest:
        rows.append([f"{len(rest):,} others", "", f"{sum(count for _, count in rest):,}"])
    marks = [
        charts.Mark(f"{shown_name(status)}: {shown_name(error)}", Decimal(count), f"{count:,}")
        for (status, error), count in ordered[:MOST_ROWS]
    ]
    return Section(
        "Failures",
        charts=[charts.bars("Calls that did not end well, by error", marks)],
        tables=[Table("Calls that did not end well", ["Status", "Error", "Calls"], rows, 2)],
    )


# Budgets


def _budgets(report: Contents) -> Section | None:
    budgets = report.figures.budgets
    if not budgets:
        return None
    rows = [
        [
            shown_name(item.name),
            "all calls" if item.per is None else f"{shown_name(item.per)}: {shown_name(item.key)}",
            item.window or "for ever",
            _amount(item.limit, item.unit),
            _amount(item.spent, item.unit),
            f"{item.refused:,}",
        ]
        for item in budgets
    ]
    notes = ["As they stand in the store, whatever part of its calls this report is of."]
    more = report.figures.budget_count - len(budgets)
    if more:
        notes.append(f"{more:,} others, which refused no more than these, are not shown.")
    head = ["Budget", "Of", "Window", "Limit last used", "Spent in the windows kept", "Refused"]
    return Section("Budgets", notes=notes, tables=[Table("Budgets", head, rows, 3)])


def _amount(amount: Decimal | int, unit: str) -> str:
    return usd(Decimal(amount)) if unit == "usd" else f"{amount:,} {unit}"
