"""``lunar-llm route-report``: measures whether routing helps on prompts of your own."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from lunar_core import AsyncLunar, Budget, ConfigurationError
from lunar_core.batch.running import run_to_end
from lunar_core.cli.app import AsJson, BaseUrl, app, report_failures
from lunar_core.cli.exit_codes import OUT_OF_BUDGET
from lunar_core.cli.inputs import complete_model
from lunar_core.cli.printing import print_answer, print_json, print_note
from lunar_core.cost.amounts import checked_amount
from lunar_core.cost.report.words import count_words
from lunar_core.evaluate import (
    AnswerPlan,
    Comparison,
    RouteReport,
    acompare_answers,
    find_judge,
    read_prompts,
)
from lunar_core.evaluate.answers import check_fields
from lunar_core.evaluate.page import page
from lunar_core.evaluate.report import OUTPUT_TOKENS

_CONCURRENCY = 16


@app.command("route-report")
def route_report(
    prompts: Annotated[
        Path, typer.Argument(help="A .jsonl of {'prompt' | 'messages', …}, or one prompt a line.")
    ],
    *,
    weights: Annotated[str, typer.Option(help="Weights of cost to try.")] = "0,0.000001,5,20,100",
    baseline: Annotated[
        str, typer.Option(help="The model to compare with.", autocompletion=complete_model)
    ] = "gpt-4o",
    models: Annotated[
        str | None,
        typer.Option(help="The candidates, separated by commas; default: all with a profile."),
    ] = None,
    within: Annotated[
        float, typer.Option(help="How much expected error above the lowest the advice may accept.")
    ] = 0.01,
    output_tokens: Annotated[
        int, typer.Option(help="Tokens to assume of every answer.")
    ] = OUTPUT_TOKENS,
    html: Annotated[
        Path | None, typer.Option(help="Write the report to this file, as a page.")
    ] = None,
    answers: Annotated[
        int | None, typer.Option(help="Answer and judge this many prompts. This costs money.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="exact:FIELD, model:NAME or python:MODULE:FUNCTION.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="USD that --answers may spend.")] = None,
    weight: Annotated[
        float | None, typer.Option(help="The weight of --answers; default: the report's advice.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of each of --answers at most.")] = 512,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Write the judged answers to this file as they come, as JSON lines."),
    ] = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Say what routing would cost and how often it would err on your prompts, by weight of cost.

    It asks for decisions alone, which generate nothing. With --answers, --judge
    and --budget, a sample is answered by the router's choice, by the baseline and
    by a shuffled control, and judged.
    """
    with report_failures(as_json=as_json):
        amount = _checked_answers(answers, judge, budget)
        rows = read_prompts(prompts)
        numbers = _numbers(weights)
        if judge is not None:
            check_fields(find_judge(judge), rows)
        if weight is not None and weight not in numbers:
            raise ConfigurationError(f"--weight: {weight:g} is none of --weights")
        for option, path in (("--html", html), ("--pairs", pairs)):
            _check_can_be_written(option, path)
        candidates = None if models is None else [name.strip() for name in models.split(",")]

        async def run() -> tuple[RouteReport, Comparison | None]:
            async with AsyncLunar(base_url=base_url, max_connections=_CONCURRENCY) as client:
                _announce(len(rows), len(numbers))
                report = await RouteReport.ameasure(
                    rows,
                    weights=numbers,
                    baseline=baseline,
                    models=candidates,
                    client=client,
                    output_tokens=output_tokens,
                    within=within,
                    concurrency=_CONCURRENCY,
                )
                if amount is None:
                    return report, None
                if not as_json:
                    print_answer(f"{report}\n\n")
                plan = AnswerPlan.draw(
                    report, answers or 0, judge=judge or "", weight=weight, max_tokens=max_tokens
                )
                print_note(plan.describe(amount))
                limit = Budget(usd=amount, reserve="worst", prices=report.prices, warn_at=None)
                return report, await acompare_answers(
                    plan,
                    limit,
                    client=client,
                    # As they come: whoever interrupts it has paid for them.
                    on_block=None if pairs is None else lambda so_far: so_far.write_jsonl(pairs),
                )

        report, comparison = run_to_end(run)
        _show(report, comparison, as_json=as_json)
        _write(report, comparison, html, pairs)
    if comparison is not None and comparison.refusal is not None:
        raise typer.Exit(OUT_OF_BUDGET)


def _announce(prompts: int, weights: int) -> None:
    asks = f"{count_words(prompts, 'prompt')} × {count_words(weights, 'weight')}"
    print_note(f"Asking for {asks} = {count_words(prompts * weights, 'decision')} …")


def _write(
    report: RouteReport, comparison: Comparison | None, html: Path | None, pairs: Path | None
) -> None:
    if pairs is not None and comparison is not None:
        print_note(f"Wrote {pairs}")
    if html is not None:
        words = "" if comparison is None else str(comparison)
        html.write_text(page(report, words), encoding="utf-8", errors="replace")
        print_note(f"Wrote {html}")


def _show(report: RouteReport, comparison: Comparison | None, *, as_json: bool) -> None:
    if as_json:
        judged = None if comparison is None else comparison.to_dict()
        print_json({**report.to_dict(), "answers": judged})
    else:
        print_answer(f"{report if comparison is None else comparison}\n")


def _checked_answers(answers: int | None, judge: str | None, budget: str | None) -> Decimal | None:
    """The budget for answers; None without answers to pay for. Raises ConfigurationError."""
    if answers is None:
        if judge is not None or budget is not None:
            raise ConfigurationError("--judge and --budget are for --answers: say how many")
        return None
    if answers < 1:
        raise ConfigurationError(f"--answers: expected 1 or more, not {answers}")
    if judge is None or budget is None:
        raise ConfigurationError("--answers costs money: it takes --judge and --budget too")
    return checked_amount(budget, "--budget")


def _check_can_be_written(option: str, path: Path | None) -> None:
    """Check it before anything is paid for that would be written there. Raises ConfigurationError."""
    if path is None:
        return
    place = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(place, os.W_OK):
        raise ConfigurationError(f"{option}: {path} cannot be written")


def _numbers(weights: str) -> list[float]:
    try:
        return [float(weight) for weight in weights.split(",")]
    except ValueError:
        raise ConfigurationError(
            f"--weights: expected numbers with commas, not {weights!r}"
        ) from None
