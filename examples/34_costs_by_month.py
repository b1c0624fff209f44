"""For finance: what each team spent in October, by day and as CSV, out of a ledger that other programs write.

    python examples/34_costs_by_month.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/34_costs_by_month.py --live      on the hosted service: this costs money

From a terminal: ``lunar-llm costs --since 2026-10-01 --until 2026-11-01 --by tag:team,model --html october.html``.
Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from service import service

from lunar_core import Ledger, Lunar, tags

OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=timezone.utc) for month in (10, 11))


def fill(store: Path) -> None:
    """Make some calls, and date them as if a day and a half had passed between each two."""
    ledger = Ledger()
    with Lunar(observers=[ledger]) as client:
        for number in range(24):
            with tags(team=("search", "support", "growth")[number % 3]):
                client.chat.completions.create(
                    model="gpt-4o-mini" if number % 4 else "gpt-4o",
                    messages=[{"role": "user", "content": f"What is {number} squared?"}],
                )
    with Ledger.open(store) as kept:
        for number, entry in enumerate(ledger):
            at = OCTOBER + timedelta(days=1.5) * number
            kept.add(replace(entry, at=at.timestamp()))


def main() -> None:
    """Read the ledger as finance does: nothing is written, and October is October in UTC."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "costs.db"
        fill(store)
        with Ledger.open(store, read_only=True) as ledger:
            for (month,), totals in sorted(ledger.group("month").items()):
                print(f"{month}  {totals.calls:2} calls  {totals.cost:f} USD")
            october = ledger.where(since=OCTOBER, until=NOVEMBER)
            print(f"\n{october.report(by=['tag:team', 'model']).to_csv()}")
            page = october.report(by=["tag:team", "model", "day"]).to_html(Path(folder) / "10.html")
            print(f"The page shows the same sum: {f'${october.total_cost:f}' in page}")


if __name__ == "__main__":
    with service():
        main()
