"""How far some work is, what it will cost, and what cannot be said of that."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal, localcontext
from threading import Thread

import pytest

from lunar_core import ConfigurationError, Entry, Ledger
from lunar_core.cost.progress import Progress


class Clock:
    """Seconds that a test lets pass."""

    now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Work:
    """Some calls that each take a second and cost so much."""

    def __init__(self, total, file=None):
        self.clock = Clock()
        self.file = io.StringIO() if file is None else file
        self.progress = Progress(total, Ledger(), file=self.file, clock=self.clock)

    def do(self, count, cost="0.25", *, has_failed=False, seconds=1):
        for _ in range(count):
            self.progress.ledger.add(Entry(f"call_{self.progress.done}", "gpt-4o", cost=cost))
            self.clock.now += seconds
            self.progress.advance(has_failed=has_failed)


def test_it_says_what_is_done_what_it_cost_what_it_will_and_how_long_it_takes():
    work = Work(200)
    work.do(50)
    assert str(work.progress) == "50 of 200 calls · $12.50 · about $50 in all · 2 min 30 s left"
    assert work.progress.projected_cost == Decimal(50)
    assert work.progress.seconds_left == pytest.approx(150)


def test_a_projected_cost_has_four_digits_whatever_the_callers_decimal_context():
    work = Work(3)
    work.do(1, cost="0.41234")
    with localcontext(Context(prec=1)):
        assert work.progress.projected_cost == Decimal("1.237")


def test_in_the_end_nothing_is_projected_any_more():
    work = Work(2)
    work.do(2)
    assert str(work.progress) == "2 of 2 calls · $0.50"
    assert work.progress.projected_cost == work.progress.total_cost


def test_what_failed_is_counted_as_done_and_told():
    work = Work(4)
    work.do(1)
    work.do(1, has_failed=True)
    assert str(work.progress).startswith("2 of 4 calls · 1 failed · $0.50 · ")


def test_an_unknown_cost_makes_the_total_unknown_and_not_smaller():
    work = Work(4)
    work.do(1)
    work.do(1, cost=None)
    assert work.progress.projected_cost is None
    assert str(work.progress) == (
        "2 of 4 calls · at least $0.25, 1 unknown · in all unknown · 2 s left"
    )


def test_without_a_total_nothing_is_projected():
    work = Work(None)
    work.do(3)
    assert str(work.progress) == "3 calls · $0.75"
    assert work.progress.projected_cost is work.progress.seconds_left is None


@pytest.mark.parametrize("done", [0, 3])
def test_nor_before_the_first_is_done_or_once_there_are_more_than_were_foreseen(done):
    work = Work(2)
    work.do(done)
    assert work.progress.projected_cost is work.progress.seconds_left is None
    assert f"{done} of 2 calls" in str(work.progress)


@pytest.mark.parametrize("total", [-1, 1.5, "200", True])
def test_a_total_that_is_no_count_is_refused(total):
    with pytest.raises(ConfigurationError, match="total: "):
        Work(total)


def test_a_terminal_has_one_line_that_changes_at_most_ten_times_a_second(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    work = Work(100, Terminal())
    with work.progress.show():
        work.do(100, seconds=0.01)
    written = work.file.getvalue()
    assert written.count("\n") == 1
    assert written.endswith("\n")
    assert 9 <= written.count("\r") <= 11
    assert all(len(line) <= 29 for line in written.replace("\x1b[K", "").strip().split("\r"))


def test_elsewhere_there_is_a_line_every_half_minute_and_one_at_the_end():
    work = Work(100)
    with work.progress.show():
        work.do(70)
    lines = work.file.getvalue().splitlines()
    assert [line.partition(" ·")[0] for line in lines] == [
        "30 of 100 calls",
        "60 of 100 calls",
        "70 of 100 calls",
    ]


def test_the_last_line_is_written_when_the_work_fails_too():
    work = Work(9)
    with pytest.raises(ZeroDivisionError), work.progress.show():
        work.do(1 // 0)
    assert work.file.getvalue().startswith("0 of 9 calls")


class Interrupted(io.StringIO):
    """Each write is interrupted by the end of another call, as the garbage collector may report one."""

    work = None

    def write(self, text):
        self.work.clock.now += 60
        self.work.progress.advance()
        return super().write(text)


def test_a_call_that_ends_while_a_line_is_written_is_counted_and_waits_for_nothing():
    file = Interrupted()
    file.work = work = Work(9, file)
    thread = Thread(target=work.do, args=(1,), kwargs={"seconds": 60}, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert work.progress.done == 2


def test_without_a_place_to_write_nothing_is_written(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    progress = Progress(2, Ledger())
    with progress.show():
        progress.advance()
    assert progress.done == 1


def test_a_file_that_was_closed_meanwhile_does_not_end_the_work():
    work = Work(2)
    with work.progress.show():
        work.file.close()
        work.do(2, seconds=60)
    assert work.progress.done == 2


def test_ends_in_many_threads_are_all_counted():
    progress = Progress(8_000, Ledger(), file=io.StringIO())
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [progress.advance(has_failed=True) for _ in range(1_000)])
    assert progress.done == progress.failed == 8_000
