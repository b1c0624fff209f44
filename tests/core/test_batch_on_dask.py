"""The same batch on Dask's workers: one is killed in the middle, and every row is answered once all the same."""

import json
import os
import subprocess
import sys

PROGRAM = """
import os, signal, sys, threading
import distributed
from lunar_core.batch import run

def main():
    cluster = distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        victim = next(iter(cluster.workers.values())).pid

        def kill_in_the_middle(result):
            if result.answered == 20:
                os.kill(victim, signal.SIGKILL)

        rows = [
            {"id": n, "prompt": f"Say hello {n}", "extra_headers": {"x-sandbox-fault": "slow=0.05"}}
            for n in range(120)
        ]
        result = run(
            rows,
            sys.argv[1],
            model="gpt-4o-mini",
            scheduler=client,
            concurrency=4,
            on_answer=kill_in_the_middle,
        )
    print(result.answered, result.failed, result.unsent)

if __name__ == "__main__":
    main()
"""


def test_a_worker_that_is_killed_costs_at_most_its_calls_in_flight(lunar_sandbox, tmp_path):
    program, out = tmp_path / "program.py", tmp_path / "out.jsonl"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), str(out)],
        env={
            **os.environ,
            "LUNAR_API_KEY": lunar_sandbox.api_key,
            "LUNAR_BASE_URL": lunar_sandbox.url,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.stdout.split() == ["120", "0", "0"], done.stderr
    ids = [json.loads(line)["id"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(ids) == list(range(120))
    assert 120 <= len(lunar_sandbox.requests()) <= 120 + 4


SHARING = """
import sys
import distributed
from lunar_core import Budget, ConfigurationError, Ledger
from lunar_core.batch import run

if __name__ == "__main__":
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client, Ledger.open(sys.argv[1]) as stored:
        for observer in (
            {"ledger": Ledger()},
            {"ledger": stored},
            {"budget": Budget(usd=1)},
            {"budget": Budget(usd=1, ledger=stored)},
        ):
            try:
                run([{"id": 1, "prompt": "hi"}], sys.argv[2], scheduler=client, **observer)
            except ConfigurationError as error:
                print(error)
"""


def test_workers_share_a_ledger_or_a_budget_only_on_postgresql(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SHARING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "costs.db"), str(tmp_path / "out.jsonl")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    refusals = done.stdout.splitlines()
    assert [text.partition(":")[0] for text in refusals] == ["ledger", "ledger", "budget", "budget"]
    assert all("only on PostgreSQL" in text for text in refusals)
