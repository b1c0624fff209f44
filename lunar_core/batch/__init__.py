"""Answers many prompts into a file: a batch that can be stopped, killed and started again.

>>> from lunar_core.batch import run
>>> result = run([{"id": 1, "prompt": "Say hello"}], "answers.jsonl", model="gpt-4o-mini")
>>> result.answered, result.failed, result.unsent
(1, 0, 0)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lunar_core.batch.answering import Batch, BatchResult, checked_client
from lunar_core.batch.answers_file import AnswersFile
from lunar_core.batch.rows import RowError, checked_rows, read_rows
from lunar_core.batch.running import run_to_end
from lunar_core.checks import checked_count
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.budget import Budget
from lunar_core.cost.ledger import Ledger, checked_ledger
from lunar_core.errors import ConfigurationError, describe_unexpected
from lunar_core.observers import Observer

__all__ = ["BatchResult", "RowError", "read_rows", "run"]


def run(
    rows: Iterable[Mapping[str, Any]] | str | os.PathLike[str],  # a row's values are JSON
    out: str | os.PathLike[str],
    *,
    model: str = "router",
    budget: Budget | None = None,
    ledger: Ledger | None = None,
    concurrency: int = 16,
    max_tokens: int | None = None,
    scheduler: Any = None,  # a distributed.Client, whose package is an extra
    client: AsyncLunar | None = None,
    on_answer: Callable[[BatchResult], None] | None = None,
) -> BatchResult:
    """Answer each row, and append each answer to ``out`` as one JSON line as soon as it comes.

    ``rows``: dicts, or the path of a file of JSON lines, ``{"id", "prompt" | "messages", …}``; other keys are
    parameters of the call. ``model`` and ``max_tokens``: for rows without their own. A line of ``out`` is ``{"id",
    "text", "model", "cost_usd", "usage"}``, with ``"tool_calls"`` if the model made some, or ``{"id", "error"}``; the
    last line of an id counts. Rows with an answer in ``out`` are skipped, failed ones are asked again. Only one batch
    at a time may write ``out``. ``concurrency``: simultaneous calls, of each worker.

    ``budget`` and ``ledger``: observers of every call. When the budget refuses a call and no call under way can release
    any of its hold, the batch ends; the rest counts as ``unsent``. A row that it refuses because no price of the model
    is known fails by itself. ``scheduler``: a ``distributed.Client`` whose workers make the calls (extra ``dask``).
    Workers take the key from their own environment, and share a budget and a ledger only on PostgreSQL. ``client``:
    makes the calls without a scheduler (default: ``AsyncLunar()``); it is left open. ``on_answer``: called with the
    result so far after each line.

    Raises RowError (a ConfigurationError) that names the first wrong row, and ConfigurationError for an ``out`` that
    holds something else or is being written, before anything is sent; OSError if ``out`` cannot be written any more.
    """
    checked_count(concurrency, "concurrency", least=1)
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(f"budget: expected a Budget{describe_unexpected(budget)}")
    if ledger is not None:
        checked_ledger(ledger)
    checked_client(client)
    if on_answer is not None and not callable(on_answer):
        raise ConfigurationError(f"on_answer: expected a function{describe_unexpected(on_answer)}")
    observers = tuple(observer for observer in (budget, ledger) if observer is not None)
    with open_batch(rows, out, model=model, max_tokens=max_tokens, on_answer=on_answer) as batch:
        if scheduler is not None:
            from lunar_core.batch.on_dask import answer_on_workers

            if client is not None:
                raise ConfigurationError(
                    "client: workers make their own; leave it out with scheduler="
                )
            answer_on_workers(scheduler, batch, observers, concurrency)
        else:
            run_to_end(lambda: _answer_here(batch, client, observers, concurrency))
        return batch.result


@contextmanager
def open_batch(
    rows: Iterable[Mapping[str, Any]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str,
    max_tokens: int | None,
    on_answer: Callable[[BatchResult], None] | None,
) -> Iterator[Batch]:
    """A context with the batch of ``rows``, all checked, whose ``out`` is open. The arguments are those of ``run``."""
    if not isinstance(out, (str, os.PathLike)):
        raise ConfigurationError(f"out: expected a file{describe_unexpected(out)}")
    if isinstance(rows, (str, os.PathLike)):
        places: Mapping[str, object] = read_rows(rows)
    elif not isinstance(rows, Iterable):
        raise ConfigurationError(f"rows: expected dicts, or a file{describe_unexpected(rows)}")
    else:
        places = {f"row {number}": row for number, row in enumerate(rows, 1)}
    checked = checked_rows(places, model=model, max_tokens=max_tokens)
    with AnswersFile(Path(out)) as answers:
        yield Batch(answers, checked, on_answer)


async def _answer_here(
    batch: Batch, client: AsyncLunar | None, observers: Sequence[Observer], concurrency: int
) -> None:
    if client is not None:
        await batch.answer_pending(client, observers, concurrency)
        return
    async with AsyncLunar(max_connections=concurrency) as own:
        await batch.answer_pending(own, observers, concurrency)
