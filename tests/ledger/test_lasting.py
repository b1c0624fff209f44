"""What was flushed is there, whatever ends the process; and a forked child writes its own entries, and no others."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sqlite3
import threading
import time

import pytest

from lunar_core import Ledger, LedgerError
from tests.ledger.support import USD, entry, finish, outcome, start


def count(where):
    with Ledger.open(where, read_only=True) as ledger:
        return len(ledger)


def test_what_was_flushed_survives_a_kill(where):
    code = """
ledger = Ledger.open(where, flush_seconds=3600)
for number in range(500): ledger.after(outcome(f"call_{number}"))
ledger.flush()
ledger.after(outcome("late"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    finish(start(code, where), -signal.SIGKILL)
    with Ledger.open(where) as ledger:
        assert len(ledger) == 500
        assert ledger.total_cost == 500 * USD


def test_a_kill_loses_what_came_within_flush_seconds_and_never_the_file(where):
    code = """
ledger = Ledger.open(where, flush_seconds=0.05)
for number in range(10**9):
    ledger.after(outcome(f"{sys.argv[2]}-{number}"))
    print(number, time.time(), flush=True)
    time.sleep(0.0005)
"""
    for round_ in range(4):
        lines = []
        with start(code, where, round_) as process:
            lines.append(process.stdout.readline())
            reader = threading.Thread(target=lines.extend, args=(process.stdout,))
            reader.start()
            time.sleep(1.5 + round_ * 0.037)
            process.kill()
            killed = time.time()
            reader.join()
        told = [line.split() for line in lines if line.endswith("\n")]
        # A machine that does other things may stall the thread: a second is far less than what came.
        due = {f"{round_}-{number}" for number, at in told if float(at) < killed - 1.0}
        assert due
        with Ledger.open(where) as ledger:
            assert due <= {each.call_id for each in ledger}


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "raise RuntimeError",
        "del ledger",
        "ledger.close()",
        "threading.Thread(target=lambda: (time.sleep(0.1), ledger.after(outcome('late')))).start()",
    ],
)
def test_the_interpreters_end_flushes(where, end):
    code = f"""
ledger = Ledger.open(where, flush_seconds=3600)
for number in range(20): ledger.after(outcome(f"call_{{number}}"))
{end}
"""
    process = start(code, where)
    process.communicate(timeout=60)
    assert count(where) == 20 + ("late" in end)


def test_a_forked_child_writes_its_own_entries_only(where):
    code = """
ledger = Ledger.open(where, flush_seconds=3600)
ledger.after(outcome("parent-before"))
ledger.add(entry(1, call_id="parent-added"))
pid = os.fork()
who = "parent" if pid else "child"
ledger.after(outcome(f"{who}-after"))
assert ledger.add(entry(1, call_id=f"{who}-second"))
if not pid:
    ledger.flush()
    assert "parent-before" not in {each.call_id for each in ledger}
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert len(ledger) == 6
ledger.close()
"""
    finish(start(code, where))
    assert count(where) == 6


def test_forks_while_others_write_and_read_lose_nothing(where):
    code = """
ledger = Ledger.open(where, flush_seconds=0.001)
stop = False
def write(name):
    for number in range(400): ledger.after(outcome(f"{name}-{number}")); time.sleep(0.0005)
def read():
    while not stop: ledger.total; list(ledger); ledger.add(entry(1, call_id="once"))
threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(3)]
reader = threading.Thread(target=read)
for thread in [*threads, reader]: thread.start()
children = []
for child in range(6):
    pid = os.fork()
    if not pid:
        for number in range(50): ledger.after(outcome(f"c{child}-{number}"))
        ledger.close()
        os._exit(0)
    children.append(pid)
    time.sleep(0.03)
for thread in threads: thread.join()
stop = True
reader.join()
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
ledger.close()
"""
    finish(start(code, where))
    with Ledger.open(where) as ledger:
        assert len(ledger) == 3 * 400 + 6 * 50 + 1
        assert len(list(ledger)) == len(ledger)
    if "://" not in where:
        assert ask(where, "PRAGMA integrity_check") == ("ok",)


def test_a_childs_log_outlives_its_parent(tmp_path):
    """SQLite remembers its locks by process: a child that shared them would lose its log to its parent's end."""
    where = str(tmp_path / "costs.db")
    code = """
ledger = Ledger.open(where, flush_seconds=0.01)
ledger.after(outcome("parent"))
ledger.flush()
pid = os.fork()
if pid:
    os._exit(0)
ledger.after(outcome("child-1"))
ledger.flush()
time.sleep(0.3)
with Ledger.open(where) as other: other.add(entry(1, call_id="other"))
ledger.after(outcome("child-2"))
ledger.close()
print("done", flush=True)
"""
    with start(code, where) as process:
        assert process.stdout.read() == "done\n"  # the child's, whose parent has long ended
    assert count(where) == 4


def test_multiprocessings_children_flush_at_their_end(where):
    code = """
import multiprocessing
ledger = Ledger.open(where, flush_seconds=3600)
ledger.after(outcome("parent"))
fork = multiprocessing.get_context("fork")
children = [fork.Process(target=lambda n=n: ledger.after(outcome(f"child-{n}"))) for n in range(3)]
for child in children: child.start()
for child in children: child.join()
assert [child.exitcode for child in children] == [0, 0, 0]
"""
    finish(start(code, where))
    assert count(where) == 4


def test_a_ledger_goes_to_other_processes_by_its_address(where, opened):
    ledger = opened()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_add_and_flush, [(ledger, number) for number in range(4)])
    assert len(ledger) == 4


def _add_and_flush(ledger, number):
    ledger.after(outcome(f"spawned-{number}"))
    ledger.flush()


def test_processes_and_threads_write_to_one_store(where):
    code = """
with Ledger.open(where, flush_seconds=0.01) as ledger:
    def work(thread):
        for number in range(200):
            ledger.after(outcome(f"{sys.argv[2]}-{thread}-{number}"))
            ledger.after(outcome(f"shared-{number}"))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    for process in [start(code, where, number) for number in range(3)]:
        finish(process)
    with Ledger.open(where) as ledger:
        assert len(ledger) == 3 * 4 * 200 + 200
        assert ledger.total_cost == len(ledger) * USD


def test_close_ends_the_thread_leaves_no_connection_and_may_be_called_twice(where):
    threads, files = set(threading.enumerate()), open_files()
    with Ledger.open(where) as ledger:
        ledger.after(outcome())
        assert ledger.add(entry(1, call_id="call_1"))
        assert ledger.total.calls == 2
        assert set(threading.enumerate()) > threads
    ledger.close()
    assert set(threading.enumerate()) == threads
    assert open_files() == files
    for use in (
        lambda: ledger.add(entry(1)),
        lambda: ledger.after(outcome()),
        lambda: ledger.label("call_1", {}),
        ledger.flush,
        lambda: ledger.total,
        lambda: ledger.get("call_2"),
        lambda: list(ledger.where(status="ok")),
    ):
        with pytest.raises(LedgerError, match="is closed"):
            use()


def test_a_ledger_that_nobody_has_any_more_writes_the_rest_and_ends_its_thread(where):
    threads = set(threading.enumerate())
    ledger = Ledger.open(where, flush_seconds=3600)
    ledger.after(outcome())
    (thread,) = set(threading.enumerate()) - threads
    del ledger
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert count(where) == 1


def ask(path, question):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchone()


def open_files():
    gc.collect()  # those of other tests
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112,PTH208  # a count


def test_each_transaction_is_on_disk_when_it_is_over(tmp_path):
    with Ledger.open(tmp_path / "costs.db") as ledger:
        with ledger._stored.database.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        driver = ledger._stored.database.connect_driver()
        assert driver.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL
        driver.close()
