"""A LangGraph agent on the routed model: a cap for each run, the route of each step, the cost by node."""

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langchain_lunar import ChatLunar, get_lunar_cost
from langchain_lunar.middleware import LunarBudgetMiddleware
from lunar_core import BREAK_TIES


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 °C and rain in {city}."


agent = create_agent(
    ChatLunar(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES),
    [get_weather],
    middleware=[LunarBudgetMiddleware(usd_per_run="0.05")],
    checkpointer=InMemorySaver(),
)
config: RunnableConfig = {"configurable": {"thread_id": "1"}}

with get_lunar_cost() as cost:
    state = agent.invoke(
        {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}]}, config
    )
for message in state["messages"]:
    if isinstance(message, AIMessage):
        model = message.response_metadata["model_name"]
        print(model, [call["name"] for call in message.tool_calls] or message.text)
print("nodes:", sorted(str(node) for node in cost.by_node))
print(f"{cost.ledger.total.calls} calls, {cost.unpriced} unpriced")
