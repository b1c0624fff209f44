"""Many prompts at once, but never more than four: each answer with its cost, and a failure that costs no other answer.

    python examples/08_async_fan_out.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/08_async_fan_out.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio

from service import service, usd

from langchain_lunar import ChatLunar, get_lunar_cost
from lunar_core import BREAK_TIES

QUESTIONS = [
    "Why is the sky blue?",
    "Prove that the square root of 2 is irrational.",
    "Translate into Spanish: Where is the station?",
    [],  # a conversation that is empty, by mistake
    "What does a Python decorator do?",
    "Which symptoms does a migraine have?",
    "Is an email a contract?",
    "Write a haiku about tides.",
]


async def main() -> None:
    """Ask everything at once."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = ChatLunar(model="router", cost_weight=BREAK_TIES)
    with get_lunar_cost() as cost:
        answers = await llm.abatch(QUESTIONS, {"max_concurrency": 4}, return_exceptions=True)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        if isinstance(answer, Exception):
            print(f"{question}: {type(answer).__name__}: {answer}")
            continue
        metadata = answer.response_metadata
        print(f"{usd(metadata.get('total_cost_usd'))}  {metadata['model_name']:20}  {question}")
    print(f"{usd(cost.total_cost)}  together, {cost.unpriced} unpriced")


if __name__ == "__main__":
    with service():
        asyncio.run(main())
