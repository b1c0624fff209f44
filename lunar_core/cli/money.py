"""``lunar-llm costs`` and ``batch``: what was spent, and many prompts within a budget."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lunar_core import AsyncLunar, Budget, ConfigurationError, Ledger, Observer, Report
from lunar_core.batch import BatchResult, open_batch
from lunar_core.batch.answering import Batch
from lunar_core.batch.running import run_to_end
from lunar_core.checks import checked_count
from lunar_core.cli.app import BaseUrl, Store, app, open_ledger, open_named, report_failures
from lunar_core.cli.exit_codes import FAILED, OUT_OF_BUDGET
from lunar_core.cli.inputs import complete_model
from lunar_core.cli.printing import is_on_a_terminal, print_answer, print_note
from lunar_core.cost.amounts import checked_amount
from lunar_core.cost.report.words import usd
from lunar_core.evaluate.report import service_prices

_AGES = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@app.command()
def costs(
    *,
    store: Store = None,
    since: Annotated[
        str | None,
        typer.Option(help="Calls from this time on: 36h, 7d or 1w ago, or 2026-10-01 (UTC)."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Calls before this time, in the same form.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="Groups, separated by commas: model, provider, day, month, tag:NAME, …"),
    ] = "model",
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The model that routed calls are compared with.", autocompletion=complete_model
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the report to this file, as a page with charts.")
    ] = None,
) -> None:
    """Show what was spent, from a stored ledger."""
    with report_failures(as_json=as_json):
        if as_csv + as_json + (html is not None) > 1:
            raise ConfigurationError("--csv, --json, --html: one at a time")
        if not store:
            raise ConfigurationError("--store, or LUNAR_LEDGER, must name a ledger")
        first, end = _bounds(since, until)
        names = [name.strip() for name in by.split(",")]
        with open_named(store, read_only=True) as ledger:
            report = ledger.where(since=first, until=end).report(by=names, baseline=baseline)
        if html is not None:
            _write_page(report, html)
            print_note(f"Wrote {html}")
        elif as_csv or as_json:
            print_answer(report.to_csv() if as_csv else report.to_json())
        elif is_on_a_terminal():
            Console().print(report)
        else:
            print_answer(f"{report}\n")


def _write_page(report: Report, path: Path) -> None:
    try:
        report.to_html(path)
    except OSError as error:
        raise ConfigurationError(f"--html: {path} cannot be written: {error.strerror}") from None


@app.command()
def batch(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="IN.jsonl",
            help='A call in each line: {"id": 1, "prompt": "hi"}, each with an id of its own.',
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The file of the answers, one JSON line each.")],
    budget: Annotated[str | None, typer.Option(help="USD that this run may spend.")] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="The model of lines that name none.",
            autocompletion=complete_model,
        ),
    ] = "router",
    concurrency: Annotated[int, typer.Option(help="Calls at once.")] = 16,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens to generate at most, for lines that do not say.")
    ] = None,
    store: Store = None,
    base_url: BaseUrl = None,
) -> None:
    """Answer many prompts, within a budget. Started again, it asks only what is not answered yet.

    Lines may have "messages" in place of "prompt"; further keys are parameters of the call.

    Answers: {"id", "text", "model", "cost_usd", "usage"} or {"id", "error"}, as they come.

    Exit codes: 0 all answered, 1 some failed, 3 stopped by the budget.
    """
    with report_failures(), open_ledger(store) as ledger:
        amount = None if budget is None else checked_amount(budget, "--budget")
        connections = checked_count(concurrency, "--concurrency", least=1)
        client = AsyncLunar(base_url=base_url, max_connections=connections)
        with (
            _progress() as show,
            open_batch(rows, out, model=model, max_tokens=max_tokens, on_answer=show) as job,
        ):
            run_to_end(lambda: _answer(job, client, amount, ledger, concurrency))
        result = job.result
    print_note(_summary(result))
    if result.failed:
        print_note(f'Why a line failed is its "error" in {out}; the same command asks it again.')
    if result.refusal is not None:
        print_note(f"{result.unsent:,} unsent: {result.refusal}")
        raise typer.Exit(OUT_OF_BUDGET)
    if result.failed:
        raise typer.Exit(FAILED)


async def _answer(
    job: Batch, client: AsyncLunar, amount: Decimal | None, ledger: Ledger | None, concurrency: int
) -> None:
    """Answer the pending rows, and close the client. ``amount``: USD of the budget, at the service's own prices."""
    async with client:
        observers: list[Observer] = [] if ledger is None else [ledger]
        if amount is not None and job.pending:
            prices = await service_prices(client.with_options(max_retries=0, timeout=5))
            observers.append(Budget(usd=amount, prices=prices, warn_at=None))
        await job.answer_pending(client, observers, concurrency)


@contextmanager
def _progress() -> Iterator[Callable[[BatchResult], None] | None]:
    """A function that shows the progress of a batch on a terminal; None elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)

        def show(result: BatchResult) -> None:
            completed = result.answered + result.failed
            progress.update(
                task, total=result.rows, completed=completed, description=_summary(result)
            )

        yield show


def _summary(result: BatchResult) -> str:
    """The result of a batch in one line."""
    facts = [f"{result.answered:,} of {result.rows:,} answered"]
    if result.skipped:
        facts.append(f"{result.skipped:,} of them before")
    if result.failed:
        facts.append(f"{result.failed:,} failed")
    if result.unpriced:
        facts.append(f"at least {usd(result.cost)}, {result.unpriced:,} unknown")
    else:
        facts.append(usd(result.cost))
    return " · ".join(facts)


def _bounds(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The moments that ``--since`` and ``--until`` name. Raises ConfigurationError, also if no time is between them."""
    now = datetime.now(timezone.utc)
    first, end = _moment(since, "--since", now), _moment(until, "--until", now)
    if first is not None and end is not None and first >= end:
        raise ConfigurationError(
            f"--since, --until: {since} is not before {until}, so that no call could be between them"
        )
    return first, end


def _moment(text: str | None, name: str, now: datetime) -> datetime | None:
    """An age such as ``7d``, or an ISO date or time, in UTC where it names no zone. Raises ConfigurationError."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+)([hdw])", text)
    try:
        if age is not None:
            return now - int(age[1]) * _AGES[age[2]]
        moment = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{name}: expected 36h, 7d, 1w, or a date such as 2026-10-01, not {text!r}"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
