"""Pays for a sample of answers: states the highest cost first, then answers and judges within a budget."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lunar_core.batch.answering import answer_rows, checked_client
from lunar_core.batch.rows import Row, RowId
from lunar_core.batch.running import run_to_end
from lunar_core.checks import checked_count
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.amounts import exact_sum
from lunar_core.cost.budget import Budget
from lunar_core.cost.ledger import Ledger
from lunar_core.cost.prices import Prices
from lunar_core.cost.report.words import count_words, usd
from lunar_core.errors import ConfigurationError
from lunar_core.evaluate.intervals import make_control
from lunar_core.evaluate.judges import JUDGE_TOKENS, Judge, ModelJudge, find_judge
from lunar_core.evaluate.pairing import Answers, Contest, Pairing, contests_of, judge_contest
from lunar_core.evaluate.pairs import Comparison, PairedAnswer
from lunar_core.evaluate.prompts import Prompt
from lunar_core.evaluate.report import RouteReport
from lunar_core.types.usage import exact_usd
from lunar_core.wire import tokens


@dataclass(frozen=True)
class Assignment:
    """The models for one prompt: the router's choice, and the control."""

    prompt: Prompt
    choice: str
    control: str


@dataclass(frozen=True)
class AnswerPlan:
    """The answers to pay for, planned before any is. ``at_most``: USD by list prices; None if a price is unknown.

    The control uses each model as often as the choice does, but assigns them at random by ``seed``.
    """

    assignments: tuple[Assignment, ...]
    baseline: str
    weight: float | None
    judge: Judge
    max_tokens: int
    prices: Prices

    @classmethod
    def draw(
        cls,
        report: RouteReport,
        count: int,
        *,
        judge: str | Judge,
        weight: float | None = None,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> AnswerPlan:
        """Draw ``count`` of a report's prompts. ``weight``: one of the report's (default: the recommended one).

        Raises ConfigurationError if the report has no prompts or no such weight, or if the judge cannot work.
        """
        checked_count(count, "answers", least=1)
        checked_count(max_tokens, "max_tokens", least=1)
        judge = find_judge(judge) if isinstance(judge, str) else judge
        weight = _weight_of(report, weight)
        prompts = {prompt.id: prompt for prompt in report.prompts}
        decisions = report.at_weight(weight)
        if not prompts:
            raise ConfigurationError(
                "report: it has no prompts: make it with RouteReport.measure()"
            )
        chance = random.Random(seed)  # noqa: S311  # a sample, not a secret
        sample = chance.sample(decisions, min(count, len(decisions)))
        controls = make_control([decision.model for decision in sample], seed)
        plan = cls(
            tuple(
                Assignment(prompts[decision.prompt], decision.model, control)
                for decision, control in zip(sample, controls, strict=True)
            ),
            report.baseline.model,
            weight,
            judge,
            max_tokens,
            report.prices,
        )
        check_fields(judge, [assignment.prompt for assignment in plan.assignments])
        return plan

    @property
    def at_most(self) -> Decimal | None:
        """USD if every answer has its full length and nothing is sent twice. Prompt tokens are counted here."""
        costs = [
            self.prices.cost(
                model, prompt_tokens=assignment.prompt.tokens, completion_tokens=self.max_tokens
            )
            for assignment in self.assignments
            for model in _models(assignment, self.baseline)
        ]
        costs += [
            self.prices.cost(
                self.judge.model, prompt_tokens=prompt_tokens, completion_tokens=JUDGE_TOKENS
            )
            for prompt_tokens in self._judged_tokens()
            if isinstance(self.judge, ModelJudge)
        ]
        return None if None in costs else exact_sum(costs)

    def _judged_tokens(self) -> Iterable[int]:
        if not isinstance(self.judge, ModelJudge):
            return
        for assignment in self.assignments:
            frame = tokens.in_messages(self.judge.messages(assignment.prompt, "", ""))
            for _ in range(2 * len(_models(assignment, self.baseline)) - 2):
                yield frame + 2 * self.max_tokens

    def describe(self, budget: Decimal) -> str:
        """What will be paid for, and the highest cost: a text for whoever must agree to it."""
        answers = sum(len(_models(row, self.baseline)) for row in self.assignments)
        judgments = sum(1 for _ in self._judged_tokens())
        asks = count_words(answers, "answer")
        if judgments:
            asks += f" and {count_words(judgments, 'judgment')}"
        most = self.at_most
        price = (
            "what they cost at most is unknown, as a price is"
            if most is None
            else f"by list prices {usd(most)} at most"
        )
        return (
            f"{count_words(len(self.assignments), 'prompt')} to be answered, which takes {asks}: {price}. "
            f"No call is sent that could pass the budget of {budget:f} USD."
        )


def compare_answers(
    plan: AnswerPlan,
    budget: Budget,
    *,
    client: AsyncLunar | None = None,
    concurrency: int = 8,
    on_block: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Pay for the answers of a plan, have them judged, and compare them. Ends when the budget refuses a call.

    ``budget``: an observer of every call; make it with ``reserve="worst"``. ``client``: left open (default:
    ``AsyncLunar()``). ``on_block``: called with the comparison so far, after every 16 prompts. Raises
    ConfigurationError if ``budget`` is no Budget.

    >>> plan = AnswerPlan.draw(report, 50, judge="exact:answer")
    >>> print(compare_answers(plan, Budget(usd="0.50", reserve="worst", prices=report.prices)))
    """
    return run_to_end(
        lambda: acompare_answers(
            plan, budget, client=client, concurrency=concurrency, on_block=on_block
        )
    )


async def acompare_answers(
    plan: AnswerPlan,
    budget: Budget,
    *,
    client: AsyncLunar | None = None,
    concurrency: int = 8,
    on_block: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """The same, on a running event loop."""
    if not isinstance(budget, Budget):
        raise ConfigurationError("budget: expected a Budget, as answers cost money")
    checked_count(concurrency, "concurrency", least=1)
    checked_client(client)
    if client is None:
        async with AsyncLunar(max_connections=concurrency) as own:
            return await acompare_answers(
                plan, budget, client=own, concurrency=concurrency, on_block=on_block
            )
    run = _AnswerRun(plan, budget, client, concurrency)
    for block in run.pairing.blocks(plan.assignments):
        await run.take(block)
        if on_block is not None:
            on_block(run.comparison())
    return run.comparison()


class _AnswerRun:
    """One comparison that goes on: asks the models, and the judge if it is one."""

    def __init__(
        self, plan: AnswerPlan, budget: Budget, client: AsyncLunar, concurrency: int
    ) -> None:
        self._plan = plan
        self._client = client
        self._concurrency = concurrency
        self._ledger = Ledger()
        self._observers = (budget, self._ledger)
        self._unreadable = 0
        self.pairing = Pairing(plan.judge.name, plan.baseline, len(plan.assignments))

    async def take(self, block: Sequence[Assignment]) -> None:
        """Answer and judge the prompts of a block."""
        answers = await self._answer(block)
        contests, judge = contests_of(answers), self._plan.judge
        results = (
            await self._ask_judge(judge, contests)
            if isinstance(judge, ModelJudge)
            else [judge_contest(judge, contest) for contest in contests]
        )
        self.pairing.add(answers, results)

    async def _answer(self, block: Sequence[Assignment]) -> list[Answers]:
        """The answers to those prompts of a block that all their models answered."""
        baseline = self._plan.baseline
        lines = await self._ask(
            {
                (number, model): (row.prompt.messages, model, self._plan.max_tokens)
                for number, row in enumerate(block)
                for model in _models(row, baseline)
            }
        )
        complete = []
        for number, row in enumerate(block):
            models = _models(row, baseline)
            answers = {
                model: PairedAnswer(model, line["text"], exact_usd(line["cost_usd"]))
                for model in models
                if (line := lines.get((number, model))) is not None and "error" not in line
            }
            if len(answers) == len(models):
                complete.append(
                    Answers(
                        row.prompt, answers[baseline], answers[row.choice], answers[row.control]
                    )
                )
            else:
                self._note_failures(row.prompt, [lines.get((number, model)) for model in models])
        return complete

    async def _ask_judge(self, judge: ModelJudge, contests: Sequence[Contest]) -> list[int | None]:
        """The results of the contests, each asked in both orders. None for one that was not judged."""
        asks: dict[tuple[int, str], tuple[Any, str, int]] = {}
        for number, (prompt, candidate, reference) in enumerate(contests):
            forward = judge.messages(prompt, candidate, reference)
            backward = judge.messages(prompt, reference, candidate)
            asks[number, "forward"] = (forward, judge.model, JUDGE_TOKENS)
            asks[number, "backward"] = (backward, judge.model, JUDGE_TOKENS)
        replies = await self._ask(asks)
        results: list[int | None] = []
        for number, contest in enumerate(contests):
            pair = [replies.get((number, order)) for order in ("forward", "backward")]
            self._note_failures(contest.prompt, pair)
            texts = [line["text"] for line in pair if line is not None and "text" in line]
            if len(texts) < 2:
                results.append(None)
                continue
            result = judge.read(*texts)
            self._unreadable += result is None
            results.append(result or 0)
        return results

    def _note_failures(self, prompt: Prompt, lines: Iterable[Mapping[str, Any] | None]) -> None:
        for line in lines:
            if line is not None and "error" in line:
                self.pairing.note_failure(prompt, line["error"])

    async def _ask(
        self, asks: Mapping[tuple[int, str], tuple[Any, str, int]]
    ) -> dict[tuple[int, str], Mapping[str, Any]]:
        """The answers' lines, by the keys of ``asks``. Missing if a budget refused the call."""
        if self.pairing.refusal is not None:
            return {}
        keys = dict(enumerate(asks))
        lines: dict[tuple[int, str], Mapping[str, Any]] = {}
        rows = [
            Row(number, {"messages": messages, "model": model, "max_tokens": most})
            for number, (messages, model, most) in enumerate(asks.values())
        ]

        def keep(line: Mapping[str, Any]) -> None:
            lines[keys[_number(line["id"])]] = line

        self.pairing.refusal = await answer_rows(
            self._client,
            rows,
            self._observers,
            self._concurrency,
            keep,
            # An unpriced model ends the comparison: its pairs could never be complete.
            unpriced_fail=False,
        )
        return lines

    def comparison(self) -> Comparison:
        """The result so far."""
        return self.pairing.comparison(
            spent=self._ledger.total_cost,
            unpriced=self._ledger.unpriced,
            weight=self._plan.weight,
            unreadable=self._unreadable,
        )


def _models(row: Assignment, baseline: str) -> list[str]:
    """The models to ask, each once, the baseline first. One answer serves all roles of the same model."""
    return list(dict.fromkeys((baseline, row.choice, row.control)))


def _number(row_id: RowId) -> int:
    return int(row_id)


def _weight_of(report: RouteReport, weight: float | None) -> float | None:
    if weight is None:
        if report.recommended is None:
            raise ConfigurationError("weight: name one, as the report cannot recommend any")
        return report.recommended.weight
    if weight not in [row.weight for row in report.weights]:
        raise ConfigurationError(f"weight: {weight!r} is none of the report's weights")
    return weight


def check_fields(judge: Judge, prompts: Iterable[Prompt]) -> None:
    """Check that every prompt has the field that the judge reads. Raises ConfigurationError."""
    field = None if isinstance(judge, ModelJudge) else judge.field
    if field is None:
        return
    for prompt in prompts:
        if field not in prompt.fields:
            raise ConfigurationError(f"judge: {judge.name}: {prompt.id} has no field {field!r}")
