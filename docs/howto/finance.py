"""The page for finance: a ledger on disk, by month and tenant, as a table, CSV, JSON and one HTML file."""

import tempfile
from decimal import Decimal
from pathlib import Path

from lunar_core import Entry, Ledger, Lunar, Prices, tags

folder = Path(tempfile.mkdtemp())
with Lunar() as client:
    prices = Prices.of(client.models.prices())

# Every process of a service opens the same file, or the same PostgreSQL: Ledger.open("postgresql://…").
with Ledger.open(folder / "costs.db", prices=prices) as ledger:
    client = Lunar(observers=[ledger])
    for tenant in ("acme", "globex"):
        with tags(tenant=tenant):
            client.chat.completions.create(
                model="router", messages=[{"role": "user", "content": "What is a compiler?"}]
            )
    # An old one, as an example. `at` is 2026-03-01, in seconds since 1970.
    ledger.add(
        Entry("call_old", "gpt-4o", cost=Decimal("0.25"), tags={"tenant": "acme"}, at=1772360000)
    )

with Ledger.open(folder / "costs.db", read_only=True, prices=prices) as ledger:
    for (month, tenant), totals in sorted(ledger.group("month", "tag:tenant").items()):
        if month == "2026-03":
            print(month, tenant, f"{totals.cost:f} USD for {totals.calls} call")
    savings = ledger.savings("gpt-4o")
    print(f"routed answers: {savings.calls}, left out: {savings.left_out}")
    print(savings.assumption)

    report = ledger.report(by=["month", "tag:tenant"], baseline="gpt-4o")
    print(report.to_csv(folder / "costs.csv").splitlines()[0])
    report.to_json(folder / "costs.json")
    page = report.to_html(folder / "costs.html")
    print("the page loads nothing:", not any(word in page for word in ("<script", "src=", "href=")))
