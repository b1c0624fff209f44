"""The same batch on Dask's workers: answers come back one by one, and one budget holds over all of them.

    python examples/36_batch_on_dask.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/36_batch_on_dask.py --live      on the hosted service: this costs money

It needs the extra ``dask``, which ``all`` leaves out. LEDGER names a database of PostgreSQL (extra ``postgres``), in
which the workers share a budget and a ledger; without it there is none. Offline, the sandbox answers: its texts are
made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import distributed
from service import service, usd

from lunar_core import Budget, Ledger
from lunar_core.batch import BatchResult, run

ROWS = [{"id": f"sum-{n}", "prompt": f"What is {n} plus {n}?", "max_tokens": 30} for n in range(60)]


def answer(scheduler: distributed.Client, out: Path) -> BatchResult:
    """Answer all rows. The workers take the key from their environment; this process alone writes the file."""
    where = os.environ.get("LEDGER")
    if where is None:
        return run(ROWS, out, model="gpt-4o-mini", scheduler=scheduler, concurrency=4)
    with Ledger.open(where) as ledger:
        budget = Budget(usd="0.01", name="batch of an example", ledger=ledger, warn_at=None)
        result = run(
            ROWS,
            out,
            model="gpt-4o-mini",
            budget=budget,
            ledger=ledger,
            scheduler=scheduler,
            concurrency=4,
        )
        print(f"All workers' calls are in one ledger: {len(ledger)} entries")
        return result


def main() -> None:
    """Run on a cluster of this machine; ``distributed.Client("tcp://…")`` is one of many."""
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as scheduler,
    ):
        result = answer(scheduler, Path(folder) / "out.jsonl")
    print(f"{result.answered} of {len(ROWS)} answered on 2 workers for {usd(result.cost)}")


if __name__ == "__main__":
    with service():
        main()
