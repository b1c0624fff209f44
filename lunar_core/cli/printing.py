"""Prints: answers to stdout, everything about them to stderr, so that pipes carry only answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lunar_core import ChatCompletion, Completion, LunarError, Usage
from lunar_core.cost.entries import Estimate
from lunar_core.cost.report.words import count_words, shown_name, usd
from lunar_core.types.attempt import Attempt
from lunar_core.types.steering import STEERING
from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.finish_reasons import is_token_limit


def is_on_a_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed by `>&-`


def print_answer(text: str) -> None:
    """Print ``text``; on a terminal without characters that would control it."""
    if is_on_a_terminal():
        text = text.translate(STEERING)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding), nl=False)


def print_json(value: Any) -> None:
    """Print a value as JSON, for other programs."""
    typer.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without empty columns; for other programs tab-separated lines, the head first."""
    if not is_on_a_terminal():
        typer.echo("\n".join("\t".join(row) for row in (head, *rows)))
        return
    table = Table(box=None, pad_edge=False)
    filled = [number for number in range(len(head)) if any(row[number] for row in rows)]
    for number in filled:
        table.add_column(head[number], justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[number].translate(STEERING)) for number in filled))
    Console().print(table)


def print_note(text: str) -> None:
    """Print a remark about an answer to stderr."""
    Console(stderr=True).print(Text(text.translate(STEERING), style="dim"), soft_wrap=True)


def print_error(error: LunarError, *, as_json: bool) -> None:
    """Print a failure to stderr, as a line or as JSON."""
    if as_json:
        fields = {
            "type": type(error).__name__,
            "message": str(error),
            "status_code": error.status_code,
            "request_id": error.request_id,
        }
        typer.echo(json.dumps({"error": fields}), err=True)
        return
    text = Text("Error: ", style="bold red").append(
        str(error).translate(STEERING), style="not bold"
    )
    Console(stderr=True).print(text, soft_wrap=True)


def answer_facts(
    answer: ChatCompletion | Completion, estimate: Estimate | None = None
) -> list[str]:
    """The facts of an answer: its model, tokens, cost and time.

    ``estimate``: of the cost, if the service stated none.
    """
    usage = answer.usage or Usage()
    facts = [answer.model or "model unknown"]
    if usage.total_tokens is not None:
        facts.append(f"{usage.total_tokens:,} tokens")
    facts.append(_cost_fact(usage.cost, estimate))
    if answer.call.latency_ms is not None:
        facts.append(f"{answer.call.latency_ms / 1000:.1f} s")
    if len(answer.call.attempts) > 1:
        facts.append(_attempts_fact(answer.call.attempts))
    if any(is_token_limit(choice.finish_reason) for choice in answer.choices):
        facts.append("cut off at max_tokens")
    return facts


def _attempts_fact(attempts: Sequence[Attempt]) -> str:
    """How many attempts there were: with decide-then-call, those at a decision and those at an answer."""
    decisions = [attempt for attempt in attempts if attempt.model == ROUTER]
    answers = len(attempts) - len(decisions)
    if not decisions or not answers:
        return count_words(len(attempts), "attempt")
    if len(decisions) == answers == 1:
        return "1 decision, 1 answer"
    return f"{count_words(len(decisions), 'attempt')} at a decision, {answers:,} at an answer"


def _cost_fact(cost: Decimal | None, estimate: Estimate | None) -> str:
    if cost is not None:
        return usd(cost)
    if estimate is None:
        return "cost unknown: the service stated none, and no price of this model is known"
    source = "the service" if estimate.source == "service" else shown_name(estimate.source)
    return f"cost not stated, about {usd(estimate.cost)} by the prices of {source}"
