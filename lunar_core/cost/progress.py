"""Shows the progress of some work: how much is done, its cost, the projected cost, and the time left."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Context, Decimal
from typing import TextIO

from lunar_core.checks import checked_count
from lunar_core.cost.amounts import EXACT
from lunar_core.cost.ledger import Ledger
from lunar_core.cost.report.words import cost_words, count_words, estimate_words, usd
from lunar_core.cost.view import CostView

TERMINAL_SECONDS, LINE_SECONDS = 0.1, 30.0
"""How often a terminal's line is drawn anew, and another line is written where there is no terminal."""

_FOUR_DIGITS = Context(prec=4)


class Progress(CostView):
    """The progress that ``lunar_progress()`` yields. ``done``, ``failed`` and ``total`` count calls of models.

    ``total``: the number of calls to come, or None: then nothing is projected. ``ledger``: holds the calls.

    >>> progress = Progress(total=4, ledger=Ledger())
    >>> progress.advance()
    >>> progress.done, progress.projected_cost
    (1, Decimal('0'))
    """

    def __init__(
        self,
        total: int | None,
        ledger: Ledger,
        *,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = None if total is None else checked_count(total, "total")
        self.ledger = ledger
        self._file = file
        self._clock = clock
        self._started_at = self._drawn_at = clock()
        # For each call that has ended, whether it failed. Appending is one step without a lock: the garbage collector
        # may report an end while this thread holds any lock.
        self._ends: list[bool] = []
        self._drawing = threading.Lock()

    def advance(self, *, has_failed: bool = False, may_draw: bool = True) -> None:
        """Count one more call that has ended. ``may_draw``: whether writing is safe at this moment."""
        self._ends.append(has_failed)
        if may_draw:
            self._draw()

    @property
    def done(self) -> int:
        """How many calls have ended, well or not."""
        return len(self._ends)

    @property
    def failed(self) -> int:
        """How many calls have failed."""
        return self._ends.count(True)

    @property
    def projected_cost(self) -> Decimal | None:
        """USD for all calls, if the rest cost as much as these did; None if that is unknown.

        It is unknown while nothing is done, without ``total``, if more than ``total`` are done, and if an answer came
        without its cost.
        """
        if self._share is None or self.unpriced:
            return None
        whole = EXACT.multiply(self.total_cost, Decimal(self.total or 0))
        return _FOUR_DIGITS.normalize(_FOUR_DIGITS.divide(whole, Decimal(self.done)))

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all are done at this pace; None if unknown."""
        if self._share is None:
            return None
        return (self._clock() - self._started_at) * (1 / self._share - 1)

    @property
    def _share(self) -> float | None:
        """The share that is done, from 0 to 1; None if unknown."""
        if not self.done or not self.total or self.done > self.total:
            return None
        return self.done / self.total

    def __str__(self) -> str:
        totals = self.ledger.total
        facts = [count_words(self.done, "call")]
        if self.total is not None:
            facts = [f"{self.done:,} of {count_words(self.total, 'call')}"]
        if self.failed:
            facts.append(f"{self.failed:,} failed")
        estimate = estimate_words(totals)
        facts.append(cost_words(totals) + (f", and about {estimate}" if estimate else ""))
        if self.done != self.total:
            if self.projected_cost is not None:
                facts.append(f"about {usd(self.projected_cost)} in all")
            elif self._share is not None:
                facts.append("in all unknown")
            if self.seconds_left is not None:
                facts.append(f"{_duration(self.seconds_left)} left")
        return " · ".join(facts)

    @contextmanager
    def show(self) -> Iterator[Progress]:
        """A context in which the progress is shown, on stderr or ``file``.

        A terminal shows one line that changes; a file gets lines.
        """
        try:
            yield self
        finally:
            with self._drawing:
                self._write(str(self), is_last=True)

    def _draw(self) -> None:
        file = self._open_file()
        seconds = TERMINAL_SECONDS if file is not None and file.isatty() else LINE_SECONDS
        if self._clock() - self._drawn_at < seconds or not self._drawing.acquire(blocking=False):
            return
        try:
            self._drawn_at = self._clock()
            self._write(str(self), is_last=False)
        finally:
            self._drawing.release()

    def _write(self, line: str, *, is_last: bool) -> None:
        file = self._open_file()
        if file is None:
            return
        if file.isatty():
            columns = shutil.get_terminal_size().columns
            file.write(f"\r{line[: columns - 1]}\x1b[K{chr(10) if is_last else ''}")
        else:
            file.write(f"{line}\n")
        file.flush()

    def _open_file(self) -> TextIO | None:
        """The file to write to; None without one: a program without a console has no stderr."""
        file = sys.stderr if self._file is None else self._file
        return None if file is None or file.closed else file


def _duration(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes.

    >>> _duration(5), _duration(190), _duration(7_260)
    ('5 s', '3 min 10 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"
