"""Many prompts at once, but never more than four: each answer as it comes, with its cost, and one failure among them.

    python examples/08_async_fan_out.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/08_async_fan_out.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio

from service import service

from langchain_lunar import ChatLunar, get_lunar_cost

QUESTIONS = [
    "Why is the sky blue?",
    "Prove that the square root of 2 is irrational.",
    "Translate into Spanish: Where is the station?",
    [],
    "What does a Python decorator do?",
    "Which symptoms does a migraine have?",
    "Is an email a contract?",
    "Write a haiku about tides.",
]


async def main() -> None:
    """Ask everything at once; print each answer when it is there, the quickest first."""
    llm = ChatLunar(model="router", cost_weight=0.2)
    print("cost in USD    ms  model                 question")
    with get_lunar_cost() as cost:
        # A failure among them is handed out as what it is: the other answers are not lost.
        answers = llm.abatch_as_completed(QUESTIONS, {"max_concurrency": 4}, return_exceptions=True)
        async for number, answer in answers:
            if isinstance(answer, Exception):
                print(f"{type(answer).__name__}: {answer}")
                continue
            told = answer.response_metadata
            print(f"{told['total_cost_usd']:11.8f}  {told['latency_ms']:4.0f}", end="  ")
            print(f"{told['model_name']:20}  {QUESTIONS[number]}")
    print(f"{cost.total_cost:11.8f}  together")


if __name__ == "__main__":
    with service():
        asyncio.run(main())
