"""Judges of answers: functions, and the evaluators of openevals and ``langchain_classic``, sync and async alike."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lunar_core import ConfigurationError
from lunar_core.evaluate.judges import better, checked_mark
from lunar_core.evaluate.pairing import Contest, judge_contest
from lunar_core.evaluate.prompts import Prompt

Fields = Mapping[str, Any]  # a row's values are JSON


@dataclass(frozen=True)
class MarkingEvaluator:
    """Marks each answer by itself; the higher mark wins."""

    name: str
    evaluate: Callable[[Fields, str], Any]
    aevaluate: Callable[[Fields, str], Awaitable[Any]]

    def compare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        """1 if ``candidate`` is better, -1 if ``reference`` is, else 0."""
        fields = _fields_of(prompt)
        first = self._mark(self.evaluate(fields, candidate))
        return better(first, self._mark(self.evaluate(fields, reference)))

    async def acompare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        """The same on a running event loop."""
        fields = _fields_of(prompt)
        first = self._mark(await self.aevaluate(fields, candidate))
        return better(first, self._mark(await self.aevaluate(fields, reference)))

    def _mark(self, verdict: Any) -> float:
        mark = verdict.get("score") if isinstance(verdict, Mapping) else verdict
        return checked_mark(self.name, mark)


@dataclass(frozen=True)
class PairwiseEvaluator:
    """A PairwiseStringEvaluator of ``langchain_classic``, asked in both orders. If it disagrees with itself: a tie."""

    name: str
    evaluator: Any

    def compare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        """1 if ``candidate`` is better, -1 if ``reference`` is, else 0."""
        ask = self.evaluator.evaluate_string_pairs
        forward = _preference(ask(**self._keywords(prompt, candidate, reference)))
        backward = _preference(ask(**self._keywords(prompt, reference, candidate)))
        return forward if forward == -backward else 0

    async def acompare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        """The same on a running event loop."""
        ask = self.evaluator.aevaluate_string_pairs
        forward = _preference(await ask(**self._keywords(prompt, candidate, reference)))
        backward = _preference(await ask(**self._keywords(prompt, reference, candidate)))
        return forward if forward == -backward else 0

    def _keywords(self, prompt: Prompt, first: str, second: str) -> dict[str, Any]:
        keywords = {"prediction": first, "prediction_b": second, "input": prompt.text}
        if getattr(self.evaluator, "requires_reference", False):
            keywords["reference"] = prompt.fields["reference"]
        return keywords


@dataclass(frozen=True)
class Judging:
    """Pairs of answers to judge. An exception stands in place of the result of one that failed."""

    judge: MarkingEvaluator | PairwiseEvaluator
    contests: list[Contest]
    max_concurrency: int

    def run(self) -> list[int | Exception]:
        """The results, in the order of the contests."""
        return [judge_contest(self.judge, contest) for contest in self.contests]

    async def arun(self) -> list[int | Exception]:
        """The same on a running event loop, ``max_concurrency`` at once."""
        permits = asyncio.Semaphore(self.max_concurrency)

        async def judge(contest: Contest) -> int | Exception:
            async with permits:
                try:
                    return await self.judge.acompare(*contest)
                except Exception as error:  # noqa: BLE001  # the caller's function: its error is this pair's result
                    return error

        return await asyncio.gather(*map(judge, self.contests))


def find_evaluator(evaluator: Any) -> MarkingEvaluator | PairwiseEvaluator:  # of three packages
    """Wrap ``evaluator`` according to its form. Raises ConfigurationError for an unknown form."""
    name = getattr(evaluator, "__name__", None) or type(evaluator).__name__
    if hasattr(evaluator, "evaluate_string_pairs"):
        return PairwiseEvaluator(name, evaluator)
    if hasattr(evaluator, "evaluate_strings"):

        def keywords(fields: Fields, answer: str) -> dict[str, Any]:
            words = {"prediction": answer}
            if getattr(evaluator, "requires_input", False):
                words["input"] = fields["prompt"]
            if getattr(evaluator, "requires_reference", False):
                words["reference"] = fields["reference"]
            return words

        return MarkingEvaluator(
            name,
            lambda fields, answer: evaluator.evaluate_strings(**keywords(fields, answer)),
            lambda fields, answer: evaluator.aevaluate_strings(**keywords(fields, answer)),
        )
    if not callable(evaluator):
        raise ConfigurationError("evaluator: expected a function, or one of openevals or LangChain")
    is_of_openevals = "outputs" in inspect.signature(evaluator).parameters

    def evaluate(fields: Fields, answer: str) -> Any:
        if not is_of_openevals:
            return evaluator(fields, answer)
        return evaluator(
            inputs=fields["inputs"], outputs=answer, reference_outputs=fields["reference"]
        )

    async def aevaluate(fields: Fields, answer: str) -> Any:
        verdict = evaluate(fields, answer)
        return await verdict if inspect.isawaitable(verdict) else verdict

    return MarkingEvaluator(name, evaluate, aevaluate)


def _fields_of(prompt: Prompt) -> Fields:
    return {"prompt": prompt.text, **prompt.fields}


def _preference(verdict: Mapping[str, Any]) -> int:
    return {"A": 1, "B": -1}.get(str(verdict.get("value")), 0)
