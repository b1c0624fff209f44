"""A chain answers through Lunar: which model the router chose for each prompt and why, and what it cost.

    make demo                                                 on this machine, no key needed
    LUNAR_API_KEY=… python examples/01_quickstart.py --live   on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its routes are the real engine's where
the package ``opentracy`` is installed, and its prices and bills are what the handler is checked against.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_lunar import LunarCostCallbackHandler, LunarRouterChain
from lunar_core import sandbox
from lunar_core.cost.ledger import Entry

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
# What makes a model's price matter differs between the routers' scales.
OTHER_WEIGHT = {"engine": 20.0, "table": 0.5, "hosted": 0.5}


class Routes(BaseCallbackHandler):
    """Keeps what the router said, prompt by prompt."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Called by LangChain for each custom event of a run."""
        if name == "lunar_routing":
            self.decisions.append(data)


@contextmanager
def service(*, live: bool) -> Iterator[sandbox.Sandbox | None]:
    """The hosted service (None), or a sandbox for the length of the block."""
    if live:
        if not os.environ.get("LUNAR_API_KEY"):
            sys.exit("--live needs LUNAR_API_KEY")
        print("Router: the hosted service's.\n")
        yield None
        return
    installed = importlib.util.find_spec("opentracy") is not None
    with sandbox.run(router="engine" if installed else "table") as running:
        if installed and running.router != "engine":
            sys.exit("The engine is installed, yet the table decided.")
        if installed:
            print(f"Router: the UniRoute engine (opentracy {running.engine_version}).\n")
        else:
            print("Router: the sandbox's table (no opentracy here: `make engine` adds it).\n")
        os.environ["LUNAR_API_KEY"], os.environ["LUNAR_BASE_URL"] = running.api_key, running.url
        yield running


def ask(cost_weight: float, *, show: bool) -> tuple[list[dict[str, Any]], LunarCostCallbackHandler]:
    """Put every prompt to a chain, streamed; the decisions, and the handler that counted the costs."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer briefly."), ("user", "{question}")]
    )
    chain = prompt | LunarRouterChain(cost_weight=cost_weight) | StrOutputParser()
    routes, costs = Routes(), LunarCostCallbackHandler()
    for question in PROMPTS:
        if show:
            print(f"\033[1m{question}\033[0m" if sys.stdout.isatty() else f"> {question}")
        for text in chain.stream({"question": question}, {"callbacks": [routes, costs]}):
            if show:
                print(text, end="", flush=True)
        if show:
            print(f"\n  -> {why(routes.decisions[-1])}\n")
    return routes.decisions, costs


def why(decision: dict[str, Any]) -> str:
    """The decision in a line: the model, and the router's own words about it."""
    lines = decision.get("reasoning", "").splitlines()
    chosen = [line.strip(" -<") for line in lines if "selected" in line]
    return f"{decision['selected_model']}: {' | '.join([*lines[:1], *chosen]) or 'no reason given'}"


def row(question: str, decision: dict[str, Any], entry: Entry, other: dict[str, Any]) -> str:
    """One line of the table."""
    changed = "" if other["selected_model"] == decision["selected_model"] else "  <-"
    error = decision.get("expected_error")
    return (
        f"{question[:38]:38}  {decision['selected_model']:20}"
        f"  {'?' if error is None else f'{error:.3f}':>9}  {entry.total_tokens:>6}"
        f"  {'?' if entry.cost is None else f'{entry.cost:.8f}':>11}  {entry.latency_ms or 0:>7.0f}"
        f"  {other['selected_model']}{changed}"
    )


def main() -> None:
    """Run both rounds, and print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--live", action="store_true", help="ask the hosted service")
    live = options.parse_args().live
    with service(live=live) as running:
        weight = OTHER_WEIGHT["hosted" if running is None else running.router]
        decisions, costs = ask(0.0, show=True)
        others, other_costs = ask(weight, show=False)

        print(
            f"{'prompt':38}  {'model':20}  exp.error  tokens  cost in USD  time/ms  at cost_weight={weight:g}"
        )
        for question, decision, entry, other in zip(
            PROMPTS, decisions, costs.ledger, others, strict=True
        ):
            print(row(question, decision, entry, other))
        print(
            f"\nTotal by the callback handler:  {costs.total_cost} USD ({costs.unpriced} unpriced)"
        )
        print(
            f"The same at cost_weight={weight:g}:  {other_costs.total_cost} USD ({other_costs.unpriced} unpriced)"
        )
        if running is not None:
            check(running, decisions, others, costs.total_cost + other_costs.total_cost)


def check(
    running: sandbox.Sandbox,
    decisions: list[dict[str, Any]],
    others: list[dict[str, Any]],
    counted: Any,
) -> None:
    """What a demonstration must show, or it is none."""
    billed = running.total_billed()
    print(f"Both together {counted} USD; the sandbox's own log says that it billed {billed} USD.")
    chosen = [decision["selected_model"] for decision in decisions]
    if counted != billed:
        sys.exit("The handler and the sandbox disagree about the bill.")
    if len(set(chosen)) < 2:
        sys.exit("The router chose the same model for every prompt.")
    if chosen == [other["selected_model"] for other in others]:
        sys.exit("The other cost_weight changed no choice.")


if __name__ == "__main__":
    main()
