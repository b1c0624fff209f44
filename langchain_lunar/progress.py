"""``lunar_progress()``: shows how far a batch is, and what it costs."""

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
    """Counts the models' runs that end. Not the outermost runs: a sequence's batch ends those all at once."""

    run_inline = True

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count a call that was answered."""
        self._progress.advance()

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Count a call that failed."""
        self._progress.advance(has_failed=True)


_COUNTER: ContextVar[_RunCounter | None] = ContextVar("lunar_progress", default=None)
# Once per process: every later run evaluates each hook.
register_configure_hook(_COUNTER, inheritable=True)


@contextmanager
def lunar_progress(total: int | None = None, *, file: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of the model calls in this block: how many are done, their cost, the projected cost and time.

    ``total``: the number of model calls to come; for a chain with one model, the number of inputs. Without it nothing
    is projected. ``file``: default stderr. A terminal shows one line that changes; other files get a line every 30
    seconds and one at the end. If an answer came without its cost, the total is shown as unknown. Raises
    ConfigurationError for a total that is no count.

    >>> with lunar_progress(total=len(inputs)) as progress:
    ...     answers = chain.batch(inputs)
    >>> progress.done, progress.total_cost
    (200, Decimal('0.009'))
    """
    with get_lunar_cost() as cost:
        progress = Progress(total, cost.ledger, file=file)
        token = _COUNTER.set(_RunCounter(progress))
        try:
            with progress.show():
                yield progress
        finally:
            _COUNTER.reset(token)
