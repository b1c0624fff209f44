"""What was spent, as a notebook would show it: a table, what routing saved, and one page with charts.

    python examples/33_report.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/33_report.py --live      on the hosted service: this costs money

In a notebook, a cell that ends in ``ledger.report()`` shows the page itself. Offline, the sandbox answers: its texts
are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from service import service

from lunar_core import BREAK_TIES, Ledger, Lunar, tags

QUESTIONS = {
    "ada": ["Prove that 7 is prime.", "Write a haiku about rain.", "Prove that 11 is prime."],
    "grace": ["Write a haiku about the sea.", "Translate into French: Good morning."],
}


def ask_all(ledger: Ledger) -> None:
    """Have the router choose who answers each question; the ledger attributes it to its user."""
    with Lunar(observers=[ledger]) as client:
        for user, questions in QUESTIONS.items():
            for question in questions:
                with tags(user=user):
                    client.chat.completions.create(
                        model="router",
                        cost_weight=BREAK_TIES,
                        messages=[{"role": "user", "content": question}],
                    )


def main() -> None:
    """Ask, and show what it came to."""
    ledger = Ledger()
    ask_all(ledger)

    # Cell 1: who spent it. A sum that is not whole would say "at least".
    print(ledger.report(by=["tag:user"], baseline="gpt-4-turbo"))

    # Cell 2: the same with the models, for a spreadsheet.
    print(f"\n{ledger.report(by=['tag:user', 'model']).to_csv()}")

    # Cell 3: a page for whoever asks, in one file that needs nothing else.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        page = ledger.report(by=["tag:user", "model"], baseline="gpt-4-turbo").to_html(path)
        print(f"{path.name}: one file with {page.count('<svg')} charts, and each one's numbers")


if __name__ == "__main__":
    with service():
        main()
