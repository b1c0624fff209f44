"""``lunar_progress()``: how far an ingestion, or any other work with a LunarLLM, is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lunar_core import CallStart, Ledger, Outcome, observing
from lunar_core.cost.progress import Progress


class _CallCounter:
    """Counts the calls that end. An observer."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def before(self, call: CallStart, /) -> None:
        """It only counts."""

    def after(self, outcome: Outcome, /) -> None:
        if outcome.endpoint == "router.decide" or outcome.status == "refused":
            return
        self._progress.advance(
            has_failed=outcome.status == "failed", may_draw=not outcome.from_finalizer
        )


@contextmanager
def lunar_progress(total: int | None = None, *, file: TextIO | None = None) -> Iterator[Progress]:
    """Show how far the calls in this block are: how many are done, what they cost, what they will, how long it takes.

    ``total``: how many calls of a LunarLLM there will be, such as nodes times extractors of an ingestion; without it
    nothing is projected. ``file``: else stderr. On a terminal it is a line that changes, elsewhere a line every 30
    seconds and one at the end. Where an answer came without its cost, the total is said to be unknown. The processes of
    ``IngestionPipeline.run(num_workers=…)`` tell nothing. Raises ConfigurationError for a total that is no count.

    >>> with lunar_progress(total=len(nodes)) as progress:
    ...     nodes = IngestionPipeline(transformations=[SummaryExtractor(llm=llm)]).run(nodes=nodes)
    >>> progress.done, progress.total_cost
    (200, Decimal('0.009'))
    """
    ledger = Ledger()
    progress = Progress(total, ledger, file=file)
    # The ledger first: what is shown of a call has its cost in it.
    with progress.shown(), observing(ledger, _CallCounter(progress)):
        yield progress
