"""A real browser, and a report's page in it. Run by `make test-browser`, which brings both."""

from __future__ import annotations

import os
import random

import pytest
from playwright.sync_api import sync_playwright

from lunar_core import Budget, BudgetExceededError, CallStart, Entry, Ledger, Model, Prices
from lunar_core.cost.ledger import Estimate

FLAGS = [
    "--no-sandbox",  # which root cannot have; the page is our own
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
OCTOBER = 1_790_812_800  # 2026-10-01
PRICES = Prices.of([Model(id="gpt-4o", input_per_million=2.5, output_per_million=10)])


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=os.environ["TEST_CHROMIUM"], args=FLAGS)


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A report with something in every section: a month's calls of many users, with unknowns and estimates."""
    dice = random.Random(4)  # noqa: S311  # dice
    with Ledger.open(tmp_path_factory.mktemp("ledger") / "costs.db", prices=PRICES) as ledger:
        for number in range(600):
            is_ok, is_priced = dice.random() < 0.95, dice.random() < 0.9
            cost = f"0.{dice.randrange(10**8):010}" if is_priced and is_ok else None
            estimate = None
            if cost is None and number % 2:
                estimate = Estimate(
                    cost=1,
                    prompt_tokens=1,
                    completion_tokens=1,
                    tokens_estimated=True,
                    source="service",
                )
            ledger.add(
                Entry(
                    f"call_{number}",
                    dice.choice(["gpt-4o", "gpt-4o-mini", "mistral-large-latest"]),
                    "router" if number % 3 else "chat.completions",
                    prompt_tokens=dice.randrange(3_000),
                    completion_tokens=dice.randrange(500),
                    cost=cost,
                    saved="0.0001" if number % 50 == 0 and cost else None,
                    estimate=estimate,
                    status="ok" if is_ok else "failed",
                    error=None if is_ok else dice.choice(["RateLimitError", "APITimeoutError"]),
                    candidates=("gpt-4o", "gpt-4o-mini"),
                    tags={
                        "user": f"user-{dice.randrange(40)}",
                        "team": "<b>Rüstzeug & Söhne</b> " + "x" * 200,
                    },
                    at=OCTOBER + dice.random() * 31 * 86_400,
                    latency_ms=dice.lognormvariate(6.5, 1),
                    ttft_ms=dice.lognormvariate(5, 0.7),
                )
            )
        budget = Budget(calls=1, name="one call", ledger=ledger, window="day", warn_at=None)
        budget.before(CallStart("b1", "chat.completions", "gpt-4o", {}))
        with pytest.raises(BudgetExceededError):
            budget.before(CallStart("b2", "chat.completions", "gpt-4o", {}))
        yield ledger.report(by=["model", "tag:user", "tag:team"])


@pytest.fixture(scope="session")
def address(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path)
    return path.as_uri()


WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LOOKS = {
    "wide": {"viewport": WIDE},
    "narrow": {"viewport": NARROW},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "dark and narrow": {"viewport": NARROW, "color_scheme": "dark"},
}


@pytest.fixture(params=LOOKS.values(), ids=LOOKS)
def page(request, browser, address):
    """The page, as each kind of reader has it; whatever the browser complains of fails the test."""
    context = browser.new_context(**request.param, reduced_motion="reduce")
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda asked: complaints.append(asked.url))
    page.goto(address)
    yield page
    context.close()
    assert complaints == []
