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
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langsmith.schemas import ExampleCreate

from langchain_lunar.callbacks import LunarCostCallbackHandler
from langchain_lunar.evaluators import Judging, find_evaluator
from lunar_core import Budget, BudgetExceededError, ConfigurationError, LunarError, observing
from lunar_core.cost.amounts import exact_sum
from lunar_core.cost.entries import model_name
from lunar_core.errors import describe_error
from lunar_core.evaluate import Comparison, PairedAnswer, RouteReport
from lunar_core.evaluate.intervals import make_control
from lunar_core.evaluate.pairing import Answers, Pairing, contests_of
from lunar_core.evaluate.prompts import Prompt

__all__ = ["acompare_runs", "compare_runs", "langsmith_examples", "report_runs"]

Chain = Runnable[Any, Any]  # whatever it takes and returns
Row = Mapping[str, Any]  # LangSmith's examples are JSON


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
    """Answer each row by the router, by the baseline and by a shuffled control, and judge the answers in pairs.

    ``rows``: ``{"inputs": what the chain takes, "outputs": the reference, if any}``, as LangSmith's examples.
    ``routed``: a chain whose model the router chooses. ``with_model(name)``: the same chain with the model of that
    name, for the baseline and the control. The control uses each model as often as the router does, in every 16 rows,
    but assigns them at random by ``seed``.

    ``evaluator``: a function ``(fields, answer) -> mark``, where fields has ``inputs`` and ``reference``; an evaluator
    of openevals (``inputs=, outputs=, reference_outputs=``); or a StringEvaluator or PairwiseStringEvaluator of
    ``langchain_classic``. A pairwise one is asked in both orders. ``budget`` counts the Lunar calls of the chains and
    of the evaluator: give it ``reserve="worst"``. When it refuses a call, the comparison ends there.

    Raises ConfigurationError for arguments that cannot work. A row whose answer or judgment fails is left out and
    counted.
    """
    if inspect.iscoroutinefunction(evaluator):
        raise ConfigurationError("evaluator: is async: give it to acompare_runs()")
    comparing = _ChainComparison(
        rows,
        routed=routed,
        with_model=with_model,
        evaluator=evaluator,
        budget=budget,
        baseline=baseline,
        seed=seed,
        max_concurrency=max_concurrency,
    )
    steps, result = comparing.steps(), None
    with observing(budget):
        while (step := comparing.next_step(steps, result)) is not None:
            result = step.run()
    return comparing.comparison()


async def acompare_runs(
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
    """The same on a running event loop, with ``max_concurrency`` judgments at once. The evaluator may be async.

    >>> async def main(rows, chain, make_chain, judge, budget):
    ...     return await acompare_runs(
    ...         rows, routed=chain, with_model=make_chain, evaluator=judge, budget=budget
    ...     )
    """
    comparing = _ChainComparison(
        rows,
        routed=routed,
        with_model=with_model,
        evaluator=evaluator,
        budget=budget,
        baseline=baseline,
        seed=seed,
        max_concurrency=max_concurrency,
    )
    steps, result = comparing.steps(), None
    with observing(budget):
        while (step := comparing.next_step(steps, result)) is not None:
            result = await step.arun()
    return comparing.comparison()


def langsmith_examples(comparison: Comparison) -> list[dict[str, Any]]:
    """The pairs for ``langsmith.Client().create_examples(dataset_name=…, examples=…)``.

    Each example has the row's inputs and reference. The answers, their models, costs and results are in its metadata.
    ``comparison.write_jsonl(path)`` writes the same as JSON lines.
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


@dataclass(frozen=True)
class _ChainBatch:
    """Inputs for a chain to run, each with a config whose handler records the cost."""

    chain: Chain
    inputs: list[Any]
    configs: list[RunnableConfig]

    def run(self) -> list[Any]:
        """The outputs, with an error in place of an output that failed."""
        return self.chain.batch(self.inputs, self.configs, return_exceptions=True)

    async def arun(self) -> list[Any]:
        """The same on a running event loop."""
        return await self.chain.abatch(self.inputs, self.configs, return_exceptions=True)


Steps = Generator[_ChainBatch | Judging, Any, None]


class _ChainComparison:
    """The steps of a comparison (chains to run, answers to judge) and its results. Does no I/O itself.

    ``steps()`` yields each step and is sent its result, so that sync and async code share them.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        routed: Chain,
        with_model: Callable[[str], Chain],
        evaluator: Any,  # see compare_runs
        budget: Budget,
        baseline: str,
        seed: int,
        max_concurrency: int,
    ) -> None:
        if not isinstance(budget, Budget):
            raise ConfigurationError("budget: expected a Budget, as answers cost money")
        self._judge = find_evaluator(evaluator)
        self._prompts = _prompts_of(rows)
        self._routed = routed
        self._with_model = cache(with_model)
        self._baseline = model_name(baseline)
        self._seed = seed
        self._max_concurrency = max_concurrency
        self._pairing = Pairing(self._judge.name, self._baseline, len(self._prompts))
        self._costs: list[Decimal | None] = []
        self._unpriced = 0

    @staticmethod
    def next_step(steps: Steps, result: Any) -> _ChainBatch | Judging | None:
        """Send ``result``, that of the last step, and return the next step; None at the end."""
        try:
            return steps.send(result)
        except StopIteration:
            return None

    def steps(self) -> Steps:
        """The whole comparison, block by block."""
        for numbers in self._pairing.blocks(range(len(self._prompts))):
            answers = yield from self._answer(numbers)
            contests = contests_of(answers)
            results = yield Judging(self._judge, contests, self._max_concurrency)
            self._pairing.add(answers, results)

    def _answer(self, numbers: Sequence[int]) -> Generator[_ChainBatch, Any, list[Answers]]:
        """The answers to each row that was answered three times: by baseline, choice and control."""
        choices = yield from self._run(self._routed, numbers)
        baselines = yield from self._run(self._with_model(self._baseline), list(choices))
        models = make_control([answer.model for answer in choices.values()], self._seed)
        controls: dict[int, PairedAnswer] = {}
        waiting: dict[str, list[int]] = {}
        for (number, choice), model in zip(choices.items(), models, strict=True):
            if number not in baselines:
                continue
            # If the control's model is the choice's or the baseline's, their answer is used.
            for answer in (choice, baselines[number]):
                if answer.model == model:
                    controls[number] = answer
                    break
            else:
                waiting.setdefault(model, []).append(number)
        for model, rows in waiting.items():
            controls |= yield from self._run(self._with_model(model), rows)
        return [
            Answers(self._prompts[number], baselines[number], choices[number], controls[number])
            for number in sorted(controls)
        ]

    def _run(
        self, chain: Chain, numbers: Sequence[int]
    ) -> Generator[_ChainBatch, Any, dict[int, PairedAnswer]]:
        """The answers, by the number of their row. A failure is counted; a call that a budget refused is missing."""
        handlers = [LunarCostCallbackHandler() for _ in numbers]
        outputs = yield _ChainBatch(
            chain,
            [self._prompts[number].fields["inputs"] for number in numbers],
            [self._config(handler) for handler in handlers],
        )
        answers = {
            number: self._read(number, handler, output)
            for number, handler, output in zip(numbers, handlers, outputs, strict=True)
        }
        return {number: answer for number, answer in answers.items() if answer is not None}

    def _config(self, handler: LunarCostCallbackHandler) -> RunnableConfig:
        return {"callbacks": [handler], "max_concurrency": self._max_concurrency}

    def _read(
        self, number: int, handler: LunarCostCallbackHandler, output: object
    ) -> PairedAnswer | None:
        entries = list(handler.ledger)
        self._costs += [entry.cost for entry in entries]
        self._unpriced += handler.unpriced
        if isinstance(output, BudgetExceededError):
            self._pairing.refusal = str(output)
            return None
        if isinstance(output, LunarError):
            self._pairing.note_failure(self._prompts[number], describe_error(output))
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

    def comparison(self) -> Comparison:
        """The result so far."""
        return self._pairing.comparison(spent=exact_sum(self._costs), unpriced=self._unpriced)


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
    """The value of a dict with one key, such as ``{"answer": "Paris"}``; anything else as it is."""
    return next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value


def _text_of(output: object) -> str:
    return output.text if isinstance(output, BaseMessage) else str(output)
