"""What each tenant and each model cost, while many calls run at once and some streams are left early.

    python examples/24_cost_per_tenant.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/24_cost_per_tenant.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio

from llama_index_instrumentation import get_dispatcher
from service import service

from llama_index_lunar import LunarCostHandler, LunarLLM, lunar_cost
from lunar_core import BREAK_TIES

QUESTIONS = {
    "acme": ["Prove that 7 is prime.", "Write a haiku.", "Write 500 words about rain."],
    "globex": ["Write a Python function.", "Write 500 words about the sea."],
}


async def serve(llm: LunarLLM, tenant: str) -> None:
    """Answer a tenant's questions, the last one only until its reader has seen enough."""
    with lunar_cost(tags={"tenant": tenant}):
        *first, last = QUESTIONS[tenant]
        await asyncio.gather(*(llm.acomplete(question) for question in first))
        stream = await llm.astream_complete(last)
        async for response in stream:
            if len(response.text) > 20:
                break
        await stream.aclose()  # the service stops generating; what it had told of its usage counts


async def main() -> None:
    """Serve both tenants at once; one handler sees all calls of the program."""
    costs = LunarCostHandler()
    get_dispatcher().add_event_handler(costs)
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = LunarLLM(model="router", cost_weight=BREAK_TIES)
    await asyncio.gather(*(serve(llm, tenant) for tenant in QUESTIONS))
    costs.close()
    for groups in (costs.by_tag("tenant"), costs.by_model):
        print("                      calls  cost in USD  unpriced")
        for name, totals in sorted(groups.items()):
            print(f"{name:20}  {totals.calls:5}  {totals.cost:11.8f}  {totals.unpriced:8}")
    print(f"\nTogether {costs.total_cost:f} USD: a lower bound, as {costs.unpriced} are unpriced.")


if __name__ == "__main__":
    with service(delay=0.01):
        asyncio.run(main())
