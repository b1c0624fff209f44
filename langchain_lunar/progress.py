"""``lunar_progress()``: how far a batch is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_lunar.callbacks import get_lunar_cost
from lunar_core.cost.progress import Progress


class _RunCounter(BaseCallbackHandler):
    """Counts the outermost runs that end: of a batch, one for each of its inputs."""

    run_inline = True

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_chain_end(
        self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._count(parent_run_id)

    def on_chain_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        self._count(parent_run_id, has_failed=True)

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._count(parent_run_id)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        self._count(parent_run_id, has_failed=True)

    def _count(self, parent_run_id: UUID | None, *, has_failed: bool = False) -> None:
        if parent_run_id is None:
            self._progress.advance(has_failed=has_failed)


_COUNTER: ContextVar[_RunCounter | None] = ContextVar("lunar_progress", default=None)
# Once per process: each hook would be asked by every run from then on.
register_configure_hook(_COUNTER, inheritable=True)


@contextmanager
def lunar_progress(total: int | None = None, *, file: TextIO | None = None) -> Iterator[Progress]:
    """Show how far the runs in this block are: how many are done, what they cost, what they will, how long it takes.

    ``total``: how many runs there will be, such as the inputs of a batch; without it nothing is projected. A run is an
    outermost one: a chain's models do not count by themselves. ``file``: else stderr. On a terminal it is a line that
    changes, elsewhere a line every 30 seconds and one at the end. Where an answer came without its cost, the total is
    said to be unknown. Raises ConfigurationError for a total that is no count.

    >>> with lunar_progress(total=len(inputs)) as progress:
    ...     answers = chain.batch(inputs)
    >>> progress.done, progress.total_cost
    (200, Decimal('0.009'))
    """
    with get_lunar_cost() as cost:
        progress = Progress(total, cost.ledger, "runs", file=file)
        token = _COUNTER.set(_RunCounter(progress))
        try:
            with progress.shown():
                yield progress
        finally:
            _COUNTER.reset(token)
