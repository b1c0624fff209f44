"""An overnight batch: many prompts at once, one answer each in a file, within a budget; what is left goes on later.

    python examples/35_batch.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/35_batch.py --live      on the hosted service: this costs money

From a terminal: ``lunar-llm batch in.jsonl --out out.jsonl --budget 5``. Offline, the sandbox answers: its texts are
made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from service import service, usd

from lunar_core import Budget
from lunar_core.batch import BatchResult, run

ROWS = [{"id": f"sum-{n}", "prompt": f"What is {n} plus {n}?", "max_tokens": 30} for n in range(60)]


def answer(out: Path, limit: str) -> BatchResult:
    """Answer what ``out`` does not answer yet, for at most ``limit`` USD."""
    budget = Budget(usd=limit, warn_at=None)
    result = run(ROWS, out, model="gpt-4o-mini", budget=budget, concurrency=8)
    stop = "stopped by its budget" if result.refusal else "done"
    print(f"{stop}: {result.answered} of {len(ROWS)} answered, {result.unsent} unsent")
    return result


def main() -> None:
    """Run until the budget is used up, and then once more."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        first = answer(out, "0.0003")
        # The next night, or after a crash: only what is not answered is asked.
        second = answer(out, "0.01")
        ids = [json.loads(line)["id"] for line in out.read_text(encoding="utf-8").splitlines()]
        print(f"Each of the {len(ids)} once: {sorted(ids) == sorted(row['id'] for row in ROWS)}")
        print(f"Both nights: {usd(first.cost + second.cost)}")


if __name__ == "__main__":
    with service():
        main()
