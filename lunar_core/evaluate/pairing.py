"""Pairs the answers of a comparison as they are judged, block by block. Pure: others ask the models and the judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeVar

from lunar_core.batch.rows import RowId
from lunar_core.errors import describe_error
from lunar_core.evaluate.pairs import Comparison, Pair, PairedAnswer
from lunar_core.evaluate.prompts import Prompt

T = TypeVar("T")

BLOCK = 16
"""How many prompts are answered and then judged together: a budget that ends leaves complete pairs."""

Result = int | Exception | None
"""1, 0 or -1; the error of a judgment that failed; None if a budget refused it, or if its failure is noted already."""


class Contest(NamedTuple):
    """An answer to judge against the baseline's."""

    prompt: Prompt
    candidate: str
    reference: str


class ContestJudge(Protocol):
    def compare(self, prompt: Prompt, candidate: str, reference: str, /) -> int:
        """1 if ``candidate`` is better, -1 if ``reference`` is, else 0."""


def judge_contest(judge: ContestJudge, contest: Contest) -> int | Exception:
    """The result of a contest, or the judge's error."""
    try:
        return judge.compare(*contest)
    except Exception as error:  # noqa: BLE001  # the caller's function: its error is this contest's result
        return error


@dataclass(frozen=True)
class Answers:
    """The answers to one prompt, before they are judged. One model's answer may serve several roles."""

    prompt: Prompt
    baseline: PairedAnswer
    choice: PairedAnswer
    control: PairedAnswer

    def contests(self) -> dict[str, Contest]:
        """The contests by model. None for the baseline's own model: it ties with itself."""
        return {
            answer.model: Contest(self.prompt, answer.text, self.baseline.text)
            for answer in (self.choice, self.control)
            if answer.model != self.baseline.model
        }

    def pair(self, results: Mapping[str, int]) -> Pair:
        """The pair by the contests' results."""
        return Pair(
            id=self.prompt.id,
            prompt=self.prompt.text,
            baseline=self.baseline,
            choice=self.choice,
            result=results.get(self.choice.model, 0),
            control=self.control,
            control_result=results.get(self.control.model, 0),
            fields=self.prompt.fields,
        )


class Pairing:
    """The pairs of a comparison that goes on. ``refusal``: set it to a budget's message to end the comparison."""

    def __init__(self, judge: str, baseline: str, planned: int) -> None:
        self._judge = judge
        self._baseline = baseline
        self._planned = planned
        self._pairs: list[Pair] = []
        self._failures: dict[RowId, str] = {}
        self.refusal: str | None = None

    def blocks(self, rows: Sequence[T]) -> Iterator[Sequence[T]]:
        """The rows to answer and judge together, until a budget refuses a call."""
        for start in range(0, len(rows), BLOCK):
            yield rows[start : start + BLOCK]
            if self.refusal is not None:
                return

    def add(self, block: Sequence[Answers], results: Iterable[Result]) -> None:
        """Pair the answers of a block. ``results``: of ``contests_of(block)``, in that order."""
        remaining = iter(results)
        for answers in block:
            judged = {model: next(remaining) for model in answers.contests()}
            failure = next((item for item in judged.values() if isinstance(item, Exception)), None)
            if failure is not None:
                self.note_failure(answers.prompt, describe_error(failure))
                continue
            numbers = {model: item for model, item in judged.items() if isinstance(item, int)}
            if len(numbers) == len(judged):
                self._pairs.append(answers.pair(numbers))

    def note_failure(self, prompt: Prompt, error: str) -> None:
        """Count a prompt whose answer or judgment failed. Its first error counts."""
        self._failures.setdefault(prompt.id, error)

    def comparison(
        self,
        *,
        spent: Decimal,
        unpriced: int,
        weight: float | None = None,
        unreadable: int = 0,
    ) -> Comparison:
        """The result so far."""
        return Comparison(
            pairs=tuple(self._pairs),
            judge=self._judge,
            baseline=self._baseline,
            weight=weight,
            planned=self._planned,
            failed=len(self._failures),
            first_failure=next(iter(self._failures.values()), None),
            unreadable=unreadable,
            spent=spent,
            unpriced=unpriced,
            refusal=self.refusal,
        )


def contests_of(block: Iterable[Answers]) -> list[Contest]:
    """The contests to judge in a block, each model's answer once for each prompt."""
    return [contest for answers in block for contest in answers.contests().values()]
