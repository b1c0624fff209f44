"""A chat engine that streams its answers and remembers the conversation; each turn tells its cost.

    python examples/22_chat_engine.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/22_chat_engine.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from service import service, usd

from llama_index_lunar import LunarLLM, lunar_cost
from lunar_core import BREAK_TIES

TURNS = [
    "Write a haiku about the first frost.",
    "Translate it into French.",
    "Say thank you and goodbye.",
]


def main() -> None:
    """Three turns of one conversation."""
    # "conversation": the model that was chosen for the first turn takes the others, too.
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = LunarLLM(model="router", cost_weight=BREAK_TIES, sticky="conversation")
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    for turn in TURNS:
        print(f"> {turn}")
        with lunar_cost() as costs:
            for token in engine.stream_chat(turn).response_gen:
                print(token, end="", flush=True)
        *_, call = costs.ledger  # before it stands the decision, where the router was asked
        print(f"\n  {call.model}: {usd(call.cost)}, first word after {call.ttft_ms or 0:.0f} ms\n")
    print(f"{len(engine.chat_history)} messages are remembered.")


if __name__ == "__main__":
    with service():
        main()
