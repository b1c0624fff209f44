"""What is PostgreSQL's alone: other tables, sessions that a pooler swaps, a server that goes away."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from lunar_core import Budget, CallStart, Ledger, LedgerError
from lunar_core.cost.budget.sql import PostgresSQL
from tests.ledger.support import entry, finish, outcome, start

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(params=["postgresql"])
def where(where):
    return where


def connections(where):
    with psycopg.connect(where) as server:
        return server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()[0]


def test_our_tables_stand_beside_others(where):
    with psycopg.connect(where) as server:
        server.execute("CREATE TABLE theirs (x int)")
    with Ledger.open(where) as ledger:
        assert ledger.add(entry(1))
        ledger.flush()
        assert ledger.total_cost == 1


def test_a_newer_version_is_refused_with_both_versions(where):
    Ledger.open(where).close()
    with psycopg.connect(where) as server:
        server.execute("UPDATE lunar_meta SET value = '7'")
    with pytest.raises(LedgerError, match=r"schema_version is 7, .* 1$"):
        Ledger.open(where)


def test_a_meta_table_of_others_is_no_ledger(where):
    with psycopg.connect(where) as server:
        server.execute("CREATE TABLE lunar_meta (key text, value text)")
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger.open(where)
    with psycopg.connect(where) as server:
        tables = server.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'lunar%'"
        ).fetchall()
    assert tables == [("lunar_meta",)]


def test_processes_may_migrate_one_store_at_once(where):
    with psycopg.connect(where) as server:
        server.execute("CREATE TABLE lunar_meta (key text primary key, value text not null)")
        server.execute("INSERT INTO lunar_meta VALUES ('schema_version', '0')")
    code = "with Ledger.open(where) as ledger: ledger.add(entry(1, call_id=f'call_{os.getpid()}'))"
    for process in [start(code, where) for _ in range(4)]:
        finish(process)
    with Ledger.open(where) as ledger:
        assert len(ledger) == 4


def test_nothing_is_left_in_a_session_and_close_leaves_no_connection(where):
    with Ledger.open(where) as ledger:
        ledger.add(entry(1, call_id="call_1"))
        assert not ledger.add(entry(1, call_id="call_1"))
        ledger.flush()
        with psycopg.connect(where) as server:
            locks = server.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            ).fetchone()
        assert locks == (0,)
        assert connections(where) > 0
    give_up_at = time.monotonic() + 5
    while connections(where) and time.monotonic() < give_up_at:
        time.sleep(0.01)  # the server takes a moment to end a session that its client has closed
    assert connections(where) == 0


def test_sessions_that_are_ended_cost_no_entry(where, opened):
    ledger = opened(flush_seconds=0.01)
    for number in range(5):
        ledger.after(outcome(f"call_{number}"))
        ledger.flush()
        assert ledger.get(f"call_{number}") is not None
        with psycopg.connect(where, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert ledger.add(entry(1, call_id=f"other_{number}"))
        try:
            ledger.flush()
        except LedgerError:  # the session was gone; it is tried again
            ledger.flush()
    assert len(ledger) == 10
    assert ledger.lost == 0


def test_the_example_of_two_processes_keeps_the_limit_on_one_server(where):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "32_two_processes.py"],
        env={"PATH": os.environ["PATH"], "LEDGER": where},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The budget of 30 calls: 30 spent, 0 held." in done.stdout
    assert "The sandbox billed 0.00033750 USD for 30 answers." in done.stdout


def test_the_example_on_dasks_workers_books_every_call_in_one_ledger(where):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "36_batch_on_dask.py"],
        env={"PATH": os.environ["PATH"], "LEDGER": where},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "All workers' calls are in one ledger: 60 entries" in done.stdout
    assert "60 of 60 answered on 2 workers for 0.00072000 USD" in done.stdout


SHARING = """
import os, signal, sys
import distributed
from lunar_core import Budget, Ledger
from lunar_core.batch import run

def main(where, out, limit):
    cluster = distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client, Ledger.open(where) as ledger:
        victims = [worker.pid for worker in cluster.workers.values()][:1]

        def kill_in_the_middle(result):
            if result.answered >= 20 and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        rows = [
            {"id": n, "prompt": f"Say hello {n}", "extra_headers": {"x-sandbox-fault": "slow=0.05"}}
            for n in range(120)
        ]
        budget = Budget(calls=int(limit), name="batch", ledger=ledger, warn_at=None)
        result = run(
            rows, out, model="gpt-4o-mini", budget=budget, ledger=ledger, scheduler=client,
            concurrency=4, on_answer=kill_in_the_middle,
        )
        state = budget.state()
    print(result.answered, result.failed, state.spent, state.held)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""
IN_FLIGHT = 4


def test_a_budget_holds_over_dasks_workers_of_which_one_is_killed(where, lunar_sandbox, tmp_path):
    program, out = tmp_path / "program.py", tmp_path / "out.jsonl"
    program.write_text(SHARING, encoding="utf-8")

    def run_within(limit):
        done = subprocess.run(
            [sys.executable, program, where, out, str(limit)],
            env=os.environ
            | {"LUNAR_API_KEY": lunar_sandbox.api_key, "LUNAR_BASE_URL": lunar_sandbox.url},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        ids = [json.loads(line)["id"] for line in out.read_text(encoding="utf-8").splitlines()]
        assert len(ids) == len(set(ids))
        return (len(ids), *map(int, done.stdout.split()))

    written, answered, failed, spent, held = run_within(80)
    assert (written, failed) == (answered, 0)
    assert len(lunar_sandbox.requests()) <= 80
    assert spent + held == 80
    # The killed one takes what it had in flight with it. Its calls stay held whose entries it had not written yet.
    assert len(lunar_sandbox.requests()) - answered <= IN_FLIGHT
    assert spent - answered <= IN_FLIGHT
    written, answered, failed, spent, held = run_within(200)
    assert (written, answered, failed) == (120, 120, 0)
    assert len(lunar_sandbox.requests()) <= 120 + 2 * IN_FLIGHT  # one was killed in each run
    with Ledger.open(where, read_only=True) as ledger:
        assert 120 - held <= len(ledger) <= spent


def test_a_budget_goes_on_after_its_connection_was_ended(where):
    with Ledger.open(where) as ledger:
        budget = Budget(calls=3, ledger=ledger)
        begin(budget, "first")
        with psycopg.connect(where, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        begin(budget, "second")
        assert budget.state().held == 2


def test_a_budget_sets_nothing_for_a_session_that_others_may_share(where):
    with Ledger.open(where) as ledger:
        budget = Budget(calls=3, ledger=ledger)
        begin(budget, "first")
        shown = budget._counters._connection.use(
            lambda connection: connection.execute("SHOW synchronous_commit").fetchone()
        )
        assert shown == ("on",)


def begin(budget, name):
    budget.before(CallStart(name, "chat.completions", "gpt-4o-mini", {}))


def test_a_reservation_is_one_statement(where):
    """One round trip to the server, then: in autocommit, a statement is a transaction."""
    with Ledger.open(where) as ledger:
        budget = Budget(calls=3, ledger=ledger)
        begin(budget, "first")
        statements = []
        budget._counters._sql = Counting(statements)
        begin(budget, "second")
        assert len(statements) == 1


class Counting(PostgresSQL):
    """Counts what is said to the server."""

    def __init__(self, statements):
        self.statements = statements

    def execute(self, connection, statement, values):
        self.statements.append(statement)
        return super().execute(connection, statement, values)
