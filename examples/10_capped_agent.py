"""An agent that may spend so much in each run: whatever its tools ask for counts, and the run ends in good order.

    python examples/10_capped_agent.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/10_capped_agent.py --live      on the hosted service: this costs money

Needs the extra ``agents``. Offline, the sandbox answers: its texts are made up by a rule, its prices resemble
the providers’ own.
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from service import service

from langchain_lunar import ChatLunar, get_lunar_cost
from langchain_lunar.middleware import LunarBudgetMiddleware


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 °C and rain in {city}."


def summarize_chapters(book: str) -> str:
    """Summarize each chapter of a book."""
    llm = ChatLunar(model="gpt-4o-mini", max_tokens=200)
    texts = [llm.invoke(f"Sum up chapter {number} of {book}.").text for number in range(1, 101)]
    return "\n".join(texts)


def main() -> None:
    """Ask for little, and for too much."""
    guard = LunarBudgetMiddleware(usd_per_run="0.001")
    tools = [get_weather, summarize_chapters]
    agent = create_agent(ChatLunar(model="gpt-4o-mini", max_tokens=200), tools, middleware=[guard])
    for question in ("What is the weather in Oslo?", "Summarize the chapters of the book Emma."):
        print(f"> {question}")
        with get_lunar_cost() as cost:
            messages = agent.invoke({"messages": [("user", question)]})["messages"]
        for message in messages:
            if isinstance(message, ToolMessage):
                print(f"  {message.name}: {message.text}")
            elif isinstance(message, AIMessage) and message.text:
                print(f"  {message.text}")
        refused = messages[-1].response_metadata.get("budget")
        print(f"  {cost.total_cost:f} USD for {cost.ledger.total.calls} calls")
        print(f"  The budget: {refused}\n" if refused else "")


if __name__ == "__main__":
    with service():
        main()
