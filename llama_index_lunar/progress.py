"""``lunar_progress()``: shows how far an ingestion, or other work with a LunarLLM, is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lunar_core import CallStart, Ledger, Outcome, observing
from lunar_core.cost.progress import Progress


class _CallCounter:
    """An observer that counts the calls that end."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def before(self, call: CallStart, /) -> None:
        """Do nothing: a call counts when it ends."""

    def after(self, outcome: Outcome, /) -> None:
        if outcome.endpoint == "router.decide" or outcome.status == "refused":
            return
        self._progress.advance(
            has_failed=outcome.status == "failed", may_draw=not outcome.from_finalizer
        )


@contextmanager
def lunar_progress(total: int | None = None, *, file: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of the calls in this block: how many are done, their cost, the projected cost and time.

    ``total``: the number of LunarLLM calls to come, such as nodes times extractors of an ingestion. Without it nothing
    is projected. ``file``: default stderr. A terminal shows one line that changes; other files get a line every 30
    seconds and one at the end. If an answer came without its cost, the total is shown as unknown. The processes of
    ``IngestionPipeline.run(num_workers=…)`` do not report. Raises ConfigurationError for a total that is no count.

    >>> with lunar_progress(total=len(nodes)) as progress:
    ...     nodes = IngestionPipeline(transformations=[SummaryExtractor(llm=llm)]).run(nodes=nodes)
    >>> progress.done, progress.total_cost
    (200, Decimal('0.009'))
    """
    ledger = Ledger()
    progress = Progress(total, ledger, file=file)
    # The ledger first, so that a call's cost is known when its progress is shown.
    with progress.show(), observing(ledger, _CallCounter(progress)):
        yield progress
