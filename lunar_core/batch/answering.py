"""Answers rows, a number of them at once, until all are answered or a budget ends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from lunar_core.batch.answers_file import AnswersFile
from lunar_core.batch.rows import Row, RowId
from lunar_core.batch.running import run_workers
from lunar_core.client.aio import AsyncLunar
from lunar_core.cost.amounts import exact_sum
from lunar_core.errors import (
    BudgetExceededError,
    ConfigurationError,
    LunarError,
    describe_error,
    describe_unexpected,
)
from lunar_core.observers import Observer, observing
from lunar_core.types.completions import ChatCompletion
from lunar_core.types.usage import exact_usd


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch. ``cost``: USD billed for the answers of this run, a lower bound if ``unpriced`` is not 0.

    ``answered``: rows with an answer in ``out``. ``skipped``: those that had one before this run. ``refusal``: the
    budget's message, if it ended the batch.
    """

    rows: int = 0
    answered: int = 0
    skipped: int = 0
    failed: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    refusal: str | None = None

    @property
    def unsent(self) -> int:
        """Rows that were not sent, or whose call a budget refused."""
        return self.rows - self.answered - self.failed


class Batch:
    """One run: the rows still to ask, and the result of the others."""

    def __init__(
        self,
        answers: AnswersFile,
        rows: Sequence[Row],
        on_answer: Callable[[BatchResult], None] | None,
    ) -> None:
        self._answers = answers
        self._on_answer = on_answer
        self._ended_ids: set[RowId] = set()
        self.pending = [row for row in rows if row.id not in answers.answered_ids]
        skipped = len(rows) - len(self.pending)
        self.refusal: str | None = None
        """The budget's message, if it ended the batch."""
        self._result = BatchResult(rows=len(rows), answered=skipped, skipped=skipped)

    @property
    def result(self) -> BatchResult:
        return replace(self._result, refusal=self.refusal)

    async def answer_pending(
        self, client: AsyncLunar, observers: Sequence[Observer], concurrency: int
    ) -> None:
        """Ask the pending rows, ``concurrency`` at once."""
        self.refusal = await answer_rows(client, self.pending, observers, concurrency, self.take)

    def take(self, answer: Mapping[str, Any]) -> None:
        """Write one answer. A second answer to the same row, from a worker that seemed dead, is ignored."""
        if answer["id"] in self._ended_ids:
            return
        self._ended_ids.add(answer["id"])
        self._answers.write(answer)
        result = self._result
        if "error" in answer:
            self._result = replace(result, failed=result.failed + 1)
        else:
            cost = answer["cost_usd"]
            self._result = replace(
                result,
                answered=result.answered + 1,
                cost=exact_sum([result.cost, exact_usd(cost)]),
                unpriced=result.unpriced + (cost is None),
            )
        if self._on_answer is not None:
            self._on_answer(self.result)

    def find_unanswered(self, rows: Iterable[Row]) -> list[Row]:
        """Those of ``rows`` without an answer or an error so far."""
        return [row for row in rows if row.id not in self._ended_ids]


def checked_client(client: object) -> AsyncLunar | None:
    """``client``, if it is an AsyncLunar or None. Raises ConfigurationError.

    A Lunar would pay for the first answer, and then fail.
    """
    if client is None or isinstance(client, AsyncLunar):
        return client
    raise ConfigurationError(f"client: expected an AsyncLunar{describe_unexpected(client)}")


async def answer_rows(
    client: AsyncLunar,
    rows: Iterable[Row],
    observers: Sequence[Observer],
    concurrency: int,
    take: Callable[[Mapping[str, Any]], None],
    *,
    unpriced_fail: bool = True,
) -> str | None:
    """Ask ``rows``, ``concurrency`` at once, and pass each answer to ``take``. Returns a budget's refusal, or None.

    A row that the budget refuses waits for calls under way, which may release a part of their holds. Without any, the
    batch ends. ``unpriced_fail``: a row whose cost the budget cannot foresee, because its model has no known price,
    fails by itself: it would be refused again, and the others can be answered.
    """
    waiting, under_way = deque(rows), 0
    refusal: str | None = None
    changed = asyncio.Condition()

    async def work() -> None:
        nonlocal under_way, refusal
        while waiting and refusal is None:
            row = waiting.popleft()
            under_way += 1
            error = await _ask(client, row, take)
            under_way -= 1
            async with changed:
                if error is not None and unpriced_fail and _is_unpriced(error):
                    take({"id": row.id, "error": describe_error(error)})
                elif error is not None:
                    waiting.appendleft(row)
                    if under_way:
                        await changed.wait()
                        continue
                    refusal = str(error)
                # An ended call mostly makes room for one other; at the end, all waiting workers must wake.
                changed.notify(1 if waiting and refusal is None else concurrency)

    with observing(*observers):
        await run_workers(work, min(concurrency, len(waiting)))
    return refusal


async def _ask(
    client: AsyncLunar, row: Row, take: Callable[[Mapping[str, Any]], None]
) -> BudgetExceededError | None:
    try:
        answer = await client.chat.completions.create(**row.keywords)
    except BudgetExceededError as refusal:
        return refusal
    except LunarError as error:
        take({"id": row.id, "error": describe_error(error)})
    else:
        take(_line(row.id, answer))
    return None


def _is_unpriced(refusal: BudgetExceededError) -> bool:
    """Whether a Budget refused the call because it cannot tell what the call may take."""
    return refusal.budget is not None and refusal.asked is None


def _line(row_id: RowId, answer: ChatCompletion) -> dict[str, Any]:
    usage, message = answer.usage, answer.choices[0].message
    line: dict[str, Any] = {
        "id": row_id,
        "text": message.content or message.refusal or "",
        "model": answer.model,
        "cost_usd": None if usage is None else usage.total_cost_usd,
        "usage": None if usage is None else usage.model_dump(mode="json", exclude_none=True),
    }
    if message.tool_calls:  # perhaps the whole answer
        line["tool_calls"] = message.model_dump(mode="json", exclude_none=True)["tool_calls"]
    return line
