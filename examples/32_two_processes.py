"""Two processes and one budget: it is kept in a ledger that both open, and its limit holds over both.

    python examples/32_two_processes.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/32_two_processes.py --live      on the hosted service: this costs money

LEDGER names the store, say ``postgresql://user@host/database``, where processes of many machines meet (extra
``postgres``); without it, an SQLite file for this run (extra ``sql``). Offline, the sandbox answers: its texts are
made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

from service import service, usd

from lunar_core import Budget, BudgetExceededError, Ledger, Lunar

CALLS = 20
"""That each process tries."""


def open_budget(ledger: Ledger) -> Budget:
    """The same in each process: the name says which budget it is."""
    return Budget(calls=30, name="example", ledger=ledger, warn_at=None)


def work(where: str) -> int:
    """What each process does; how many of its calls were refused."""
    refused = 0
    with Ledger.open(where) as ledger:
        client = Lunar(observers=[ledger, open_budget(ledger)])
        for number in range(CALLS):
            try:
                client.chat.completions.create(
                    model="gpt-4o-mini",
                    messages=[{"role": "user", "content": f"What is {number} squared?"}],
                )
            except BudgetExceededError:
                refused += 1
    return refused


def main() -> None:
    """Start both, and tell what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        where = os.environ.get("LEDGER") or str(Path(folder) / "ledger.db")
        with multiprocessing.get_context("spawn").Pool(2) as processes:
            refused = sum(processes.map(work, [where, where]))
        with Ledger.open(where) as ledger:
            state = open_budget(ledger).state()
            print(f"Two processes tried {2 * CALLS} calls, and {refused} were refused.")
            print(f"The budget of {state.limit} calls: {state.spent} spent, {state.held} held.")
            print(f"The ledger has {len(ledger)} entries: {usd(ledger.total_cost)}.")


if __name__ == "__main__":
    with service():
        main()
