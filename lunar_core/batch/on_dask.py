"""Runs a batch on Dask's workers. Only the caller writes the file; each answer reaches it through a queue.

A worker gets the number of its part, and asks the caller for the part's rows when it begins. So if Dask gives the part
of a dead worker to another one, that gets only the unanswered rows. Needs the extra ``dask``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from lunar_core.batch.answering import Batch, answer_rows
from lunar_core.batch.rows import Row
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.budget import Budget
from lunar_core.cost.ledger import Ledger
from lunar_core.errors import ConfigurationError
from lunar_core.extras import install_command
from lunar_core.observers import Observer

PARTS_PER_WORKER = 4
"""Several, so that faster workers can do more."""
_ENDED = "ended"
"""The message for a part that has ended, well or not. It follows the part's last answer."""


def answer_on_workers(
    scheduler: Any, batch: Batch, observers: Sequence[Observer], concurrency: int
) -> None:
    """Answer the pending rows on the workers of ``scheduler``, a ``distributed.Client``.

    Raises ConfigurationError for another kind of scheduler, or for an observer that workers cannot share.
    """
    distributed = _import_distributed()
    if not isinstance(scheduler, distributed.Client):
        raise ConfigurationError("scheduler: expected a distributed.Client or None")
    for observer in observers:
        _check_is_shared(observer)
    pending = batch.pending
    while pending:
        answered = batch.result.answered
        refusal = _run_round(scheduler, batch, pending, observers, concurrency)
        pending = batch.find_unanswered(pending)
        if refusal is None:
            break
        if batch.result.answered == answered:  # no call is left that could release a hold
            batch.refusal = refusal
            break


def _run_round(
    scheduler: Any,
    batch: Batch,
    rows: Sequence[Row],
    observers: Sequence[Observer],
    concurrency: int,
) -> str | None:
    """Ask all rows once. Returns a budget's refusal, or None."""
    distributed = _import_distributed()
    count = max(1, min(len(rows), PARTS_PER_WORKER * len(scheduler.scheduler_info()["workers"])))
    parts = [rows[number::count] for number in range(count)]
    run = f"lunar-batch-{uuid.uuid4().hex}"
    messages = distributed.Queue(run, client=scheduler)
    futures = [
        scheduler.submit(_answer_part, run, number, tuple(observers), concurrency, pure=False)
        for number in range(count)
    ]
    for future in futures:
        future.add_done_callback(lambda _future: messages.put(_ENDED))
    try:
        running = count
        while running:
            message = messages.get()
            if message == _ENDED:
                running -= 1
            elif "begin" in message:
                part = batch.find_unanswered(parts[message["part"]])
                distributed.Queue(message["begin"], client=scheduler).put(
                    [(row.id, dict(row.keywords)) for row in part]
                )
            else:
                batch.take(message)
        refusals = scheduler.gather(futures)
    finally:
        scheduler.cancel(futures)
        messages.close()
    return next((refusal for refusal in refusals if refusal is not None), None)


def _answer_part(
    run: str, part: int, observers: Sequence[Observer], concurrency: int
) -> str | None:
    """On a worker: get the part's rows, answer them, and send each answer back."""
    distributed = _import_distributed()
    client = distributed.get_client()
    messages = distributed.Queue(run, client=client)
    name = f"{run}-{uuid.uuid4().hex}"
    orders = distributed.Queue(name, client=client)
    messages.put({"begin": name, "part": part})
    rows = [Row(row_id, keywords) for row_id, keywords in orders.get()]
    orders.close()

    def take(answer: Mapping[str, Any]) -> None:
        messages.put(dict(answer))

    async def answer_all() -> str | None:
        async with AsyncLunar(max_connections=concurrency) as lunar:
            return await answer_rows(lunar, rows, observers, concurrency, take)

    try:
        return asyncio.run(answer_all())
    finally:
        for ledger in _ledgers(observers):
            ledger.close()


def _ledgers(observers: Sequence[Observer]) -> list[Ledger]:
    """The stored ledgers that this process has opened for ``observers``, each once."""
    ledgers = [
        observer.ledger if isinstance(observer, Budget) else observer for observer in observers
    ]
    return list({id(ledger): ledger for ledger in ledgers if isinstance(ledger, Ledger)}.values())


def _check_is_shared(observer: Observer) -> None:
    name, ledger = "ledger", observer if isinstance(observer, Ledger) else None
    if isinstance(observer, Budget):
        name, ledger = "budget", observer.ledger
    if ledger is None or ledger.backend != "postgresql":
        raise ConfigurationError(
            f"{name}: workers share one only on PostgreSQL, with Ledger.open('postgresql://…')"
        )


def _import_distributed() -> Any:  # an extra, which has no types
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"scheduler: Dask needs {error.name}: {install_command('dask')}"
        ) from None
    return distributed
