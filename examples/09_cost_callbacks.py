"""What was spent, for whom and where: by tag, by node, by run; what a cache saved; what an unread stream may cost.

    python examples/09_cost_callbacks.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/09_cost_callbacks.py --live      on the hosted service: this costs money

Needs the extra ``agents``. Offline, the sandbox answers: its texts are made up by a rule, its prices resemble
the providers’ own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from langchain_core.caches import InMemoryCache
from langgraph.graph import MessagesState, StateGraph
from service import service

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, get_lunar_cost
from lunar_core import BREAK_TIES, Totals, tags


def by_user(llm: ChatLunar) -> None:
    """A handler counts the calls that it is given to; ``tags`` say whom they are for."""
    handler = LunarCostCallbackHandler()
    with tags(user="ada"):
        llm.batch(["Prove that 7 is prime.", "Write a haiku."], {"callbacks": [handler]})
    with tags(user="grace"):
        llm.invoke("Write a Python function that reverses a list.", {"callbacks": [handler]})
    show("by user", handler.by_tag("user"))


def by_node_and_run(llm: ChatLunar) -> None:
    """A block counts all calls that are made within it, also those in the nodes of a graph."""

    def draft(state: MessagesState) -> MessagesState:
        return {"messages": [llm.invoke(state["messages"])]}

    def shorten(state: MessagesState) -> MessagesState:
        return {"messages": [llm.invoke([*state["messages"], ("user", "Say it in one line.")])]}

    graph = StateGraph(MessagesState).add_sequence([draft, shorten]).set_entry_point("draft")
    with get_lunar_cost() as cost:
        for task in ("Write an email about the new release.", "Write a story about a cat."):
            graph.compile().invoke({"messages": [("user", task)]})
    show("by node", cost.by_node)
    show("by run", dict(zip(("email", "story"), cost.by_root_run.values(), strict=True)))


def from_cache() -> None:
    """An answer from LangChain's cache costs nothing, and is told as saved."""
    llm = ChatLunar(model="gpt-4o-mini", cache=InMemoryCache())
    with get_lunar_cost() as cost:
        for _ in range(3):
            llm.invoke("What is the capital of Portugal?")
    print(f"Asked three times:   {cost.total_cost:f} USD billed, {cost.saved:f} USD saved")


def left_early(llm: ChatLunar) -> None:
    """What was written is billed, but how much that was is not told to a reader who left: it is unknown, not 0."""
    with get_lunar_cost() as cost, closing(llm.stream("Write 500 words about tides.")) as stream:
        next(stream)
    print(f"A stream left early: {cost.total_cost:f} USD and {cost.unpriced} unpriced")


def show(title: str, groups: Mapping[Any, Totals]) -> None:
    """A table of what each group cost."""
    print(f"{title:16}  calls  tokens  cost in USD")
    for name, totals in groups.items():
        print(f"  {name:14}  {totals.calls:5}  {totals.total_tokens:6}  {totals.cost:11.8f}")
    print()


def main() -> None:
    """All of that, and together: blocks nest."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = ChatLunar(model="router", cost_weight=BREAK_TIES)
    with get_lunar_cost() as cost:
        by_user(llm)
        by_node_and_run(llm)
        from_cache()
        left_early(llm)
    print(f"Together:            {cost.total_cost:f} USD and {cost.unpriced} unpriced")


if __name__ == "__main__":
    with service(delay=0.01):
        main()
