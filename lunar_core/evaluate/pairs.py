"""Answers side by side (the router's choice, a shuffled control, the baseline), and what their judgments show. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from lunar_core.batch.json_lines import json_line
from lunar_core.batch.rows import RowId
from lunar_core.cost.report.words import count_words
from lunar_core.evaluate.intervals import Interval, bootstrap_interval, wilson_interval
from lunar_core.types.numbers import plain_number


@dataclass(frozen=True)
class PairedAnswer:
    """An answer and its model. ``cost``: USD as billed; None if unknown."""

    model: str
    text: str
    cost: Decimal | None = None


@dataclass(frozen=True)
class Pair:
    """One prompt's answers. ``result``: 1 if the choice is judged better than the baseline, -1 if worse, 0 for a tie.

    ``control_result``: the same for the control; None without a control.
    """

    id: RowId
    prompt: str
    baseline: PairedAnswer
    choice: PairedAnswer
    result: int
    control: PairedAnswer | None = None
    control_result: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # a row's values are JSON

    def to_dict(self) -> dict[str, object]:
        """The pair as plain JSON, costs as strings."""
        return {
            "id": self.id,
            "prompt": self.prompt,
            **self.fields,
            "baseline": _plain(self.baseline),
            "choice": _plain(self.choice),
            "result": self.result,
            "control": None if self.control is None else _plain(self.control),
            "control_result": self.control_result,
        }


def _plain(answer: PairedAnswer) -> dict[str, object]:
    cost = None if answer.cost is None else format(answer.cost, "f")
    return {"model": answer.model, "text": answer.text, "cost_usd": cost}


@dataclass(frozen=True)
class Record:
    """Wins, ties and losses against the baseline."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def count(cls, results: Iterable[int]) -> Record:
        """Count results of 1, 0 and -1."""
        counts = list(results)
        return cls(counts.count(1), counts.count(0), counts.count(-1))

    @property
    def interval(self) -> Interval | None:
        """Wilson's 95 % interval of the wins among judgments that are no tie; None if all are ties."""
        return wilson_interval(self.wins, self.wins + self.losses)

    def __str__(self) -> str:
        words = f"{self.wins} won, {self.ties} tied, {self.losses} lost"
        if self.interval is None:
            return f"{words} (no difference at all, so no interval)"
        low, high = self.interval
        decided = self.wins + self.losses
        share = self.wins / decided
        return f"{words}; of {decided} that differ {share:.0%} won (95 % Wilson interval {low:.0%} to {high:.0%})"


@dataclass(frozen=True)
class Comparison:
    """Judged answers, paired: the router's choice against the baseline, beside a shuffled control.

    ``planned``: prompts to answer. ``failed``: prompts with a failed answer or judgment; ``first_failure``: the error
    of the first. ``unreadable``: judgments that could not be read and count as ties. ``spent``: USD billed for answers
    and judgments, a lower bound if ``unpriced`` is not 0. ``refusal``: the budget's message, if it ended the
    comparison.
    """

    pairs: tuple[Pair, ...]
    judge: str
    baseline: str
    weight: float | None = None
    planned: int | None = None
    failed: int = 0
    first_failure: str | None = None
    unreadable: int = 0
    spent: Decimal | None = None
    unpriced: int = 0
    refusal: str | None = None

    @property
    def record(self) -> Record:
        """The choice's record against the baseline."""
        return Record.count(pair.result for pair in self.pairs)

    @property
    def control_record(self) -> Record | None:
        """The control's record against the baseline; None without a control."""
        results = [pair.control_result for pair in self.pairs]
        judged = [result for result in results if result is not None]
        return Record.count(judged) if judged and len(judged) == len(results) else None

    @property
    def advantage(self) -> float | None:
        """How much better the choice did than the control: wins minus losses per prompt (-2 to 2)."""
        differences = self._differences
        return sum(differences) / len(differences) if differences else None

    @property
    def advantage_interval(self) -> Interval | None:
        """The paired bootstrap's 95 % interval of ``advantage``."""
        return bootstrap_interval(self._differences)

    @property
    def _differences(self) -> list[int]:
        return [
            pair.result - pair.control_result
            for pair in self.pairs
            if pair.control_result is not None
        ]

    @property
    def verdict(self) -> str:
        """What this shows, in a sentence, and no more."""
        nothing = self._nothing_shown()
        if nothing is not None:
            return nothing
        advantage, interval = self.advantage or 0.0, self.advantage_interval
        if interval is not None and interval[0] > 0:
            return "The choice did better than the same mix at random: here, choosing prompt by prompt adds something."
        if advantage <= 0:
            return (
                "The control did as well: routing adds nothing here beyond the cheaper mix of models, "
                "as far as this sample shows."
            )
        return (
            "The choice did better than the control by no more than chance explains: that routing adds anything here "
            "beyond the cheaper mix of models was not shown."
        )

    def _nothing_shown(self) -> str | None:
        """Why this shows nothing about routing; None if it shows something."""
        if not self.pairs:
            return "Nothing was judged, so nothing was shown."
        if self.control_record is None:
            return "There was no control: a better choice prompt by prompt cannot be told from another mix of models."
        if all(
            pair.control is not None and pair.control.model == pair.choice.model
            for pair in self.pairs
        ):
            return (
                "The control chose as the router did, everywhere: nothing was shown about routing."
            )
        if not any(pair.result or pair.control_result for pair in self.pairs):
            return "The judge saw no difference between any answer and the baseline's: nothing was shown about routing."
        return None

    def to_dict(self) -> dict[str, object]:
        """Everything but the pairs as plain JSON."""
        control = self.control_record
        return {
            "judge": self.judge,
            "baseline": self.baseline,
            "weight": self.weight,
            "prompts": len(self.pairs),
            "planned": self.planned,
            "failed": self.failed,
            "first_failure": self.first_failure,
            "unreadable": self.unreadable,
            "choice": {**vars(self.record), "wilson_95": self.record.interval},
            "control": None
            if control is None
            else {**vars(control), "wilson_95": control.interval},
            "advantage": self.advantage,
            "advantage_bootstrap_95": self.advantage_interval,
            "spent_usd": None if self.spent is None else format(self.spent, "f"),
            "unpriced": self.unpriced,
            "refusal": self.refusal,
            "verdict": self.verdict,
        }

    def write_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write the pairs, one JSON line each."""
        lines = [json_line(pair.to_dict()) for pair in self.pairs]
        Path(path).write_text("".join(lines), encoding="utf-8", newline="")

    def __str__(self) -> str:
        lines = [
            f"{count_words(len(self.pairs), 'prompt')} answered and judged by {self.judge}, "
            f"against {self.baseline} alone"
            + ("" if self.weight is None else f", at cost_weight {plain_number(self.weight)}"),
            f"  the router's choice: {self.record}",
        ]
        if self.control_record is not None:
            lines.append(f"  the shuffled control: {self.control_record}")
        if self.advantage is not None:
            lines.append(f"  choice less control: {self._advantage_words()}")
        lines += [f"  {words}" for words in self._shortfalls()]
        return "\n".join([*lines, self.verdict])

    def _advantage_words(self) -> str:
        interval = self.advantage_interval
        words = f"{self.advantage:+.3f} wins less losses for each prompt"
        if interval is None:
            return words
        return f"{words} (95 % paired bootstrap interval {interval[0]:+.3f} to {interval[1]:+.3f})"

    def _shortfalls(self) -> list[str]:
        words = []
        if self.spent is not None:
            bound = (
                f", a lower bound: {count_words(self.unpriced, 'call')} stated no cost"
                if self.unpriced
                else ""
            )
            words.append(f"spent: {self.spent:f} USD{bound}")
        if self.failed:
            words.append(
                f"left out: {count_words(self.failed, 'prompt')} whose answer or judgment failed; "
                f"the first: {self.first_failure}"
            )
        if self.unreadable:
            words.append(f"unreadable judgments, counted as ties: {self.unreadable}")
        if self.refusal is not None:
            words.append(f"ended early, {len(self.pairs)} of {self.planned}: {self.refusal}")
        return words
