"""A FunctionAgent with tools on the routed LLM: which model took each step, why, and what it cost.

    python examples/21_agent.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/21_agent.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio

from llama_index.core.agent.workflow import AgentOutput, FunctionAgent, ToolCallResult
from service import service, usd

from llama_index_lunar import LunarLLM, lunar_cost
from lunar_core import BREAK_TIES


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 °C and rain in {city}"


def get_population(city: str) -> str:
    """Tell the number of people who live in a city."""
    return f"{city} has 2.1 million inhabitants"


async def main() -> None:
    """Let the agent answer, and show its steps."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    agent = FunctionAgent(
        name="guide", tools=[get_weather, get_population], llm=llm, system_prompt="Be brief."
    )
    with lunar_cost(tags={"user": "u1"}) as costs:
        question = "What is the weather in Paris, and how large is its population?"
        run = agent.run(user_msg=question)
        async for event in run.stream_events():
            if isinstance(event, ToolCallResult):
                print(f"  {event.tool_name}({event.tool_kwargs}) -> {event.tool_output}")
            elif isinstance(event, AgentOutput):
                # What the step cost and how it was routed is part of its raw answer.
                usage, route = event.raw.get("usage", {}), event.raw.get("routing", {})
                print(f"{event.raw['model']}: {usd(usage.get('total_cost_usd'))}")
                print(f"  {route.get('reasoning', 'no decision').splitlines()[0]}")
        print(f"\n{await run}\n")
    for name, totals in costs.by_agent.items():
        print(
            f"Agent {name}: {totals.calls} calls, {totals.cost:f} USD, {totals.unpriced} unpriced"
        )


if __name__ == "__main__":
    with service():
        asyncio.run(main())
