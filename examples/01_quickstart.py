"""A chain answers through Lunar: which model the router chose for each prompt and why, and what it cost.

    make demo                                                 on this machine, no key needed
    LUNAR_API_KEY=… python examples/01_quickstart.py --live   on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its routes are the real engine's where
the package ``opentracy`` is installed, and its prices and bills are what the handler is checked against.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from service import service

from langchain_lunar import LunarCostCallbackHandler, LunarRouterChain
from lunar_core import BREAK_TIES, Entry
from lunar_core.sandbox import Sandbox

PROMPTS = [
    "Write a haiku about autumn rain.",
    "What is the capital of Australia?",
    "Translate into French: The library opens at nine on weekdays.",
    "Prove that there are infinitely many prime numbers.",
    "Write a Python function that merges two sorted lists in linear time.",
    "A patient has chest pain, sudden breathlessness and a swollen calf. What is the likeliest diagnosis?",
    "Compute the eigenvalues of the matrix [[2, 1], [1, 2]].",
    "Summarise the causes of the First World War in two sentences.",
    "Is a verbal agreement to sell a house binding under English contract law?",
    "Suggest a name for a grey cat.",
]
ENGINE = importlib.util.find_spec("opentracy") is not None
# Times USD per 1,000 tokens: so a model that costs 0.005 more must err less by 0.1.
OTHER_WEIGHT = 20.0
COLUMNS = "{:20}  {:>5}  {:>6}  {:>10}  {:>5}  {:20}"


class Routes(BaseCallbackHandler):
    """Keeps what the router said, prompt by prompt."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Called by LangChain for each custom event of a run."""
        if name == "lunar_routing":
            self.decisions.append(data)


def ask(cost_weight: float, *, show: bool) -> tuple[list[dict[str, Any]], LunarCostCallbackHandler]:
    """Put every prompt to a chain, streamed; the decisions, and the handler that counted the costs."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer briefly."), ("user", "{question}")]
    )
    chain = prompt | LunarRouterChain(cost_weight=cost_weight) | StrOutputParser()
    routes, costs = Routes(), LunarCostCallbackHandler()
    bold = "\033[1m{}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "> {}"
    for question in PROMPTS:
        if show:
            print(bold.format(question))
        for text in chain.stream({"question": question}, {"callbacks": [routes, costs]}):
            if show:
                print(text, end="", flush=True)
        if show:
            print(f"\n  -> {why(routes.decisions[-1])}\n")
    return routes.decisions, costs


def why(decision: dict[str, Any]) -> str:
    """The decision in a line: the model, and the router's own words about it."""
    first, *scores = (decision.get("reasoning") or "no reason given").splitlines()
    chosen = [line.partition("<-")[0].strip() for line in scores if "selected" in line]
    return " | ".join([*(chosen or [decision["selected_model"]]), first])


def row(decision: dict[str, Any], entry: Entry, other: dict[str, Any]) -> str:
    """What one prompt came to, and whom the other round chose for it."""
    chosen, error = decision["selected_model"], decision.get("expected_error")
    return COLUMNS.format(
        chosen,
        "?" if error is None else f"{error:.3f}",
        entry.total_tokens,
        "?" if entry.cost is None else f"{entry.cost:.8f}",
        f"{entry.latency_ms or 0:.0f}",
        "same" if other["selected_model"] == chosen else other["selected_model"],
    )


def table(heading: str, rows: list[str]) -> None:
    """The prompts beside the rows; above them where the terminal is too narrow."""
    room = shutil.get_terminal_size(fallback=(120, 24)).columns - len(heading) - 2
    if room < 20:
        print(f"  {heading}".rstrip())
        for question, told in zip(PROMPTS, rows, strict=True):
            print(f"{question}\n  {told}".rstrip())
        return
    for question, told in zip(["prompt", *PROMPTS], [heading, *rows], strict=True):
        short = question if len(question) <= room else f"{question[: room - 1]}…"
        print(f"{short:{room}}  {told}".rstrip())


def main(running: Sandbox | None) -> None:
    """Run both rounds, print the table, and check the sums against the sandbox's bill."""
    print(f"Router: {name_of_router(running)}.\n")
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    decisions, costs = ask(BREAK_TIES, show=True)
    others, other_costs = ask(OTHER_WEIGHT, show=False)
    other = f"at cost_weight={OTHER_WEIGHT:g}"
    heading = COLUMNS.format("model", "error", "tokens", "USD", "ms", other)
    table(heading, [row(*cells) for cells in zip(decisions, costs.ledger, others, strict=True)])

    total = costs.total_cost + other_costs.total_cost
    unpriced = costs.unpriced + other_costs.unpriced
    print(f"\n{'Total by the callback handler':38}{spent(costs)}")
    print(f"{f'The same prompts {other}':38}{spent(other_costs)}")
    print(f"{'Together':38}{total:f} USD, {unpriced} unpriced")
    if running is not None:
        check(running, decisions, others, total)


def spent(costs: LunarCostCallbackHandler) -> str:
    """What a round cost; unknown where streams state no cost, as those of the hosted backend were seen to."""
    return "unknown" if costs.unpriced else f"{costs.total_cost:f} USD"


def name_of_router(running: Sandbox | None) -> str:
    """Who decides. That the table stands in for an engine that is installed, is an error."""
    if running is None:
        return "the hosted service's"
    if running.router == "engine":
        return f"the UniRoute engine, opentracy {running.engine_version}. The answers are made up"
    if ENGINE:
        sys.exit("The engine is installed, yet the table decided.")
    return "the sandbox's table (`make engine` adds the engine). The answers are made up"


def check(
    running: Sandbox,
    decisions: list[dict[str, Any]],
    others: list[dict[str, Any]],
    counted: Decimal,
) -> None:
    """What a demonstration must show, or it is none."""
    chosen = [decision["selected_model"] for decision in decisions]
    if counted != running.total_billed():
        sys.exit(
            f"The sandbox billed {running.total_billed():f} USD, the handler counted {counted:f}."
        )
    if len(set(chosen)) < 2:
        sys.exit("The router chose the same model for every prompt.")
    if chosen == [other["selected_model"] for other in others]:
        sys.exit("The other cost_weight changed no choice.")


if __name__ == "__main__":
    with service(
        router="engine" if ENGINE else "table", delay=0.01 if sys.stdout.isatty() else 0.0
    ) as asked:
        main(asked)
