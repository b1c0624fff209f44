"""An agent with tools on the routed model: which model took each step, why, and what each node of its graph cost.

    python examples/04_agent.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/04_agent.py --live      on the hosted service: this costs money

Needs the extra ``agents``. Offline, the sandbox answers: its texts are made up by a rule, its prices resemble
the providers’ own.
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from service import service, usd

from langchain_lunar import ChatLunar, get_lunar_cost
from lunar_core import BREAK_TIES


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 °C and rain in {city}."


def suggest_sights(city: str) -> str:
    """Suggest sights that are worth seeing in a city."""
    # A tool may ask a model, too: that is counted for the node "tools".
    return ChatLunar(model="gpt-4o-mini").invoke(f"Name three sights of {city}.").text


def show(node: str, message: BaseMessage) -> None:
    """What a node of the graph has added to the conversation."""
    if not isinstance(message, AIMessage):
        print(f"[{node}] {message.name}: {message.text}\n")
        return
    metadata = message.response_metadata
    print(f"[{node}] {metadata['model_name']}, {usd(metadata.get('total_cost_usd'))}")
    # Once tools were called, the same model reads their results: nothing was to be decided then.
    why = metadata.get("routing", {}).get("reasoning", "Stays with the tools that it called.")
    print(f"  {why.splitlines()[0]}")
    for call in message.tool_calls:
        print(f"  calls {call['name']}({call['args']})")
    print(f"  {message.text}\n" if message.text else "")


def main() -> None:
    """Let the agent answer, and tell what it cost, node by node."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = ChatLunar(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    agent = create_agent(llm, [get_weather, suggest_sights], system_prompt="Be brief.")
    question = "What is the weather in Lisbon, and which sights of the city would you suggest?"
    print(f"{question}\n")
    with get_lunar_cost() as cost:
        for update in agent.stream({"messages": [("user", question)]}, stream_mode="updates"):
            for node, added in update.items():
                for message in added["messages"]:
                    show(node, message)
    print("node   calls  tokens  cost in USD")
    for node, totals in [*cost.by_node.items(), ("total", cost.ledger.total)]:
        print(f"{node:5}  {totals.calls:5}  {totals.total_tokens:6}  {totals.cost:11.8f}")


if __name__ == "__main__":
    with service():
        main()
