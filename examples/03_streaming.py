"""Streams: words as they come, the bill on the last chunk, the same with ``await``, and leaving early.

    python examples/03_streaming.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/03_streaming.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

from langchain_core.messages import AIMessageChunk
from service import service, usd

from langchain_lunar import ChatLunar
from lunar_core import BREAK_TIES


def tell(llm: ChatLunar, question: str) -> None:
    """Print the words as they come. The sum of the chunks is the whole answer, with its route and its bill."""
    answer = AIMessageChunk(content="")
    for chunk in llm.stream(question):
        print(chunk.text, end="", flush=True)
        answer += chunk
    metadata, usage = answer.response_metadata, answer.usage_metadata or {}
    print(f"\n  by {metadata['model_name']} for {usd(metadata.get('total_cost_usd'))}", end=", ")
    print(f"{usage.get('output_tokens', 'unknown')} tokens written")
    print(f"  since: {metadata['routing'].get('reasoning', 'not said').splitlines()[0]}")
    print(
        f"  first word after {metadata['ttft_ms']:.0f} ms, last after {metadata['latency_ms']:.0f} ms\n"
    )


async def count_words(llm: ChatLunar, question: str) -> int:
    """The same with ``await``: native, no threads."""
    return len("".join([chunk.text async for chunk in llm.astream(question)]).split())


async def count_all(llm: ChatLunar, *questions: str) -> None:
    """Several streams at once, on one event loop."""
    counts = await asyncio.gather(*(count_words(llm, question) for question in questions))
    for question, count in zip(questions, counts, strict=True):
        print(f"{question} {count} words.")


def leave(llm: ChatLunar) -> None:
    """Whoever has seen enough closes the stream: the connection ends, and the service stops writing."""
    with closing(llm.stream("Write 500 words about the moon.")) as stream:
        for number, chunk in enumerate(stream):
            print(chunk.text, end="")
            if number == 6:
                break
    print("… enough.")


def main() -> None:
    """Stream in each of these ways."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = ChatLunar(model="router", cost_weight=BREAK_TIES)
    tell(llm, "Write a story about a cat and a door.")
    questions = ("Write a haiku about the sea.", "Prove that 7 is a prime number.")
    asyncio.run(count_all(llm, *questions))
    leave(llm)


if __name__ == "__main__":
    with service(delay=0.01):
        main()
