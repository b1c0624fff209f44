"""Whether routing helps a chain of yours: the router's choice, one model alone and a shuffled control, judged in pairs.

>>> from langchain_lunar.evaluate import compare_runs
>>> rows = [{"inputs": {"question": "What is the capital of France?"}, "outputs": {"answer": "Paris"}}]
>>> comparison = compare_runs(
...     rows,
...     routed=prompt | LunarRouterChain(cost_weight=5) | StrOutputParser(),
...     with_model=lambda name: prompt | ChatLunar(model=name) | StrOutputParser(),
...     evaluator=lambda fields, answer: fields["reference"] in answer,
...     budget=Budget(usd="0.50", reserve="worst"),
... )
>>> print(comparison)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langsmith.schemas import ExampleCreate

from langchain_lunar.callbacks import LunarCostCallbackHandler
from lunar_core import Budget, BudgetExceededError, ConfigurationError, LunarError, observing
from lunar_core.cost.amounts import exact_sum
from lunar_core.cost.entries import model_name
from lunar_core.evaluate import Comparison, Pair, PairedAnswer, RouteReport, ScoreJudge
from lunar_core.evaluate.intervals import shuffled
from lunar_core.evaluate.prompts import Prompt

__all__ = ["compare_runs", "langsmith_examples", "report_runs"]

Chain = Runnable[Any, Any]  # whatever it takes and returns
Row = Mapping[str, Any]  # LangSmith's examples are JSON

_BLOCK = 16
"""Rows that are run and judged together, so that a budget that ends leaves whole pairs behind."""


def report_runs(
    handler: LunarCostCallbackHandler, *, baseline: str = "gpt-4o", within: float = 0.01
) -> RouteReport:
    """What the router chose in the runs that a handler saw, and what the baseline would have cost at list prices.

    Raises ConfigurationError where no run was routed.
    """
    return RouteReport.from_ledger(handler.ledger, baseline=baseline, within=within)


def compare_runs(
    rows: Iterable[Row],
    *,
    routed: Chain,
    with_model: Callable[[str], Chain],
    evaluator: Any,  # of three packages, none of which is a dependency
    budget: Budget,
    baseline: str = "gpt-4o",
    seed: int = 0,
    max_concurrency: int = 8,
) -> Comparison:
    """Run each row by the router, by the baseline and by a shuffled control, and judge their answers in pairs.

    ``rows``: ``{"inputs": what the chain takes, "outputs": the reference, if there is one}``, as LangSmith's examples.
    ``routed``: a chain whose model the router chooses. ``with_model(name)``: the same chain with a model by name, for
    the baseline and the control, which has the router's shares of models in every 16 rows, assigned at random by
    ``seed``.

    ``evaluator``: a function ``(fields, answer) -> mark``, whose fields are ``inputs`` and ``reference``; one of
    openevals (``inputs=, outputs=, reference_outputs=``); or a StringEvaluator or PairwiseStringEvaluator of
    ``langchain_classic``, the second of which is asked in both orders. ``budget`` is over the chains' Lunar calls, and
    over the evaluator's where it asks Lunar: give it ``reserve="worst"``. It ends the comparison where it refuses.

    Raises ConfigurationError for what cannot work. A row whose answer or judgment fails is left out, and counted.
    """
    if not isinstance(budget, Budget):
        raise ConfigurationError("budget: expected a Budget, as answers cost money")
    judge = _judge_of(evaluator)
    prompts = _prompts_of(rows)
    runs = _Runs(prompts, routed, with_model, model_name(baseline), max_concurrency)
    pairs: list[Pair] = []
    with observing(budget):
        for start in range(0, len(prompts), _BLOCK):
            numbers = range(start, min(start + _BLOCK, len(prompts)))
            for number, answers in runs.take(numbers, seed):
                try:
                    pairs.append(_pair(prompts[number], judge, *answers))
                except Exception as error:  # noqa: BLE001  # an evaluator's; the answers are paid for
                    runs.failures[number] = f"{type(error).__name__}: {error}"
            if runs.refusal is not None:
                break
    return Comparison(
        pairs=tuple(pairs),
        judge=judge.name,
        baseline=model_name(baseline),
        planned=len(prompts),
        failed=len(runs.failures),
        first_failure=next(iter(runs.failures.values()), None),
        spent=exact_sum(runs.costs),
        unpriced=runs.unpriced,
        refusal=runs.refusal,
    )


def langsmith_examples(comparison: Comparison) -> list[dict[str, Any]]:
    """The pairs for ``langsmith.Client().create_examples(dataset_name=…, examples=…)``.

    The inputs are the row's, the reference is its own; the answers, their models and costs and the results are in the
    metadata. As JSON lines they are written by ``comparison.write_jsonl(path)``.
    """
    # LangSmith renamed the field.
    name = "reference_outputs" if "reference_outputs" in ExampleCreate.model_fields else "outputs"
    examples = []
    for pair in comparison.pairs:
        inputs, reference = pair.fields.get("inputs"), pair.fields.get("reference")
        example: dict[str, Any] = {
            "inputs": dict(inputs) if isinstance(inputs, Mapping) else {"input": pair.prompt},
            "metadata": {
                key: value
                for key, value in pair.to_dict().items()
                if key not in ("inputs", "reference", "prompt")
            },
        }
        if reference is not None:
            example[name] = {"reference": reference}
        examples.append(example)
    return examples


class _Runs:
    """Chains that were run, and what came of them."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        routed: Chain,
        with_model: Callable[[str], Chain],
        baseline: str,
        max_concurrency: int,
    ) -> None:
        self._prompts = prompts
        self._routed = routed
        self._with_model = cache(with_model)
        self._baseline = baseline
        self._max_concurrency = max_concurrency
        self.failures: dict[int, str] = {}
        self.costs: list[Decimal | None] = []
        self.unpriced = 0
        self.refusal: str | None = None

    def take(
        self, numbers: Sequence[int], seed: int
    ) -> list[tuple[int, tuple[PairedAnswer, PairedAnswer, PairedAnswer]]]:
        """Of each row that was answered whole: the baseline, the choice and the control."""
        choices = self._run(self._routed, numbers)
        baselines = self._run(self._with_model(self._baseline), list(choices))
        models = shuffled([answer.model for answer in choices.values()], seed)
        controls: dict[int, PairedAnswer] = {}
        waiting: dict[str, list[int]] = {}
        for (number, choice), model in zip(choices.items(), models, strict=True):
            if number not in baselines:
                continue
            # Where the control is the choice's model or the baseline's, it is the same answer.
            for answer in (choice, baselines[number]):
                if answer.model == model:
                    controls[number] = answer
                    break
            else:
                waiting.setdefault(model, []).append(number)
        for model, rows in waiting.items():
            controls |= self._run(self._with_model(model), rows)
        return [
            (number, (baselines[number], choices[number], controls[number]))
            for number in sorted(controls)
        ]

    def _run(self, chain: Chain, numbers: Sequence[int]) -> dict[int, PairedAnswer]:
        """The answers by the number of their row. What fails is counted, what a budget refuses is missing."""
        handlers = [LunarCostCallbackHandler() for _ in numbers]
        outputs = chain.batch(
            [self._prompts[number].fields["inputs"] for number in numbers],
            [self._config(handler) for handler in handlers],
            return_exceptions=True,
        )
        answers = {
            number: self._answer(number, handler, output)
            for number, handler, output in zip(numbers, handlers, outputs, strict=True)
        }
        return {number: answer for number, answer in answers.items() if answer is not None}

    def _config(self, handler: LunarCostCallbackHandler) -> RunnableConfig:
        return {"callbacks": [handler], "max_concurrency": self._max_concurrency}

    def _answer(
        self, number: int, handler: LunarCostCallbackHandler, output: object
    ) -> PairedAnswer | None:
        entries = list(handler.ledger)
        self.costs += [entry.cost for entry in entries]
        self.unpriced += handler.unpriced
        if isinstance(output, BudgetExceededError):
            self.refusal = str(output)
            return None
        if isinstance(output, LunarError):
            self.failures[number] = f"{type(output).__name__}: {output}"
            return None
        if isinstance(output, BaseException):
            raise output  # a mistake in the chain, not in an answer
        answers = [entry for entry in entries if entry.endpoint != "router.decide"]
        if not answers:
            raise ConfigurationError("routed, with_model: no Lunar model answered in the chain")
        return PairedAnswer(
            answers[-1].model_name,
            _text_of(output),
            None if handler.unpriced else handler.total_cost,
        )


@dataclass(frozen=True)
class _PairwiseJudge:
    """A PairwiseStringEvaluator of ``langchain_classic``, asked in both orders: only what it says in both counts."""

    name: str
    evaluator: Any

    def compare(self, prompt: Prompt, candidate: str, reference: str) -> int:
        forward = self._preference(prompt, candidate, reference)
        backward = self._preference(prompt, reference, candidate)
        return forward if forward == -backward else 0

    def _preference(self, prompt: Prompt, first: str, second: str) -> int:
        keywords = {"prediction": first, "prediction_b": second, "input": prompt.text}
        if getattr(self.evaluator, "requires_reference", False):
            keywords["reference"] = prompt.fields["reference"]
        verdict = self.evaluator.evaluate_string_pairs(**keywords)
        return {"A": 1, "B": -1}.get(str(verdict.get("value")), 0)


def _judge_of(evaluator: Any) -> ScoreJudge | _PairwiseJudge:  # see compare_runs
    name = getattr(evaluator, "__name__", None) or type(evaluator).__name__
    if hasattr(evaluator, "evaluate_string_pairs"):
        return _PairwiseJudge(name, evaluator)
    if hasattr(evaluator, "evaluate_strings"):
        return ScoreJudge(
            name, lambda fields, answer: _mark(_judge_string(evaluator, fields, answer))
        )
    if not callable(evaluator):
        raise ConfigurationError("evaluator: expected a function, or one of openevals or LangChain")
    if "outputs" in inspect.signature(evaluator).parameters:
        return ScoreJudge(
            name,
            lambda fields, answer: _mark(
                evaluator(
                    inputs=fields["inputs"], outputs=answer, reference_outputs=fields["reference"]
                )
            ),
        )
    return ScoreJudge(name, evaluator)


def _judge_string(evaluator: Any, fields: Mapping[str, Any], answer: str) -> Any:
    keywords = {"prediction": answer}
    if getattr(evaluator, "requires_input", False):
        keywords["input"] = fields["prompt"]
    if getattr(evaluator, "requires_reference", False):
        keywords["reference"] = fields["reference"]
    return evaluator.evaluate_strings(**keywords)


def _mark(verdict: Any) -> Any:
    """The score of an evaluator's verdict, which the judge checks."""
    return verdict.get("score") if isinstance(verdict, Mapping) else verdict


def _pair(
    prompt: Prompt,
    judge: ScoreJudge | _PairwiseJudge,
    baseline: PairedAnswer,
    choice: PairedAnswer,
    control: PairedAnswer,
) -> Pair:
    """The answers, judged."""

    def result(answer: PairedAnswer) -> int:
        same = answer.model == baseline.model
        return 0 if same else judge.compare(prompt, answer.text, baseline.text)

    first = result(choice)
    return Pair(
        id=prompt.id,
        prompt=prompt.text,
        baseline=baseline,
        choice=choice,
        result=first,
        control=control,
        control_result=first if control is choice else result(control),
        fields=prompt.fields,
    )


def _prompts_of(rows: Iterable[object]) -> list[Prompt]:
    prompts = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or "inputs" not in row:
            raise ConfigurationError(f'rows: row {number}: expected {{"inputs": …, "outputs": …}}')
        inputs, reference = row["inputs"], row.get("outputs")
        fields = {"inputs": inputs, "reference": _only_value(reference)}
        text = str(_only_value(inputs))
        prompts.append(Prompt(f"row {number}", [{"role": "user", "content": text}], fields))
    if not prompts:
        raise ConfigurationError("rows: there are none")
    return prompts


def _only_value(value: Any) -> Any:
    """Of ``{"answer": "Paris"}``, the Paris; anything else as it is."""
    return next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value


def _text_of(output: object) -> str:
    return output.text if isinstance(output, BaseMessage) else str(output)
