"""Streams: words as they come, the bill on the last chunk, the same with ``await``, and leaving early.

    python examples/03_streaming.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/03_streaming.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

from langchain_core.messages import AIMessageChunk
from service import service

from langchain_lunar import ChatLunar


def tell(llm: ChatLunar, question: str) -> None:
    """Print the words as they come. The sum of the chunks is the whole answer, with its route and its bill."""
    answer = AIMessageChunk("")
    for chunk in llm.stream(question):
        print(chunk.text, end="", flush=True)
        answer += chunk
    told, usage = answer.response_metadata, answer.usage_metadata
    print(f"\n  {told['model_name']}: {told['routing']['reasoning'].splitlines()[0]}")
    print(f"  {usage['output_tokens']} tokens written, {told['total_cost_usd']:.8f} USD")
    print(f"  first word after {told['ttft_ms']:.0f} ms, last after {told['latency_ms']:.0f} ms\n")


async def count_words(llm: ChatLunar, question: str) -> None:
    """The same with ``await``: native, no threads."""
    words = [chunk.text async for chunk in llm.astream(question) if chunk.text]
    print(f"{len(words)} words on: {question}")


async def count_both(llm: ChatLunar) -> None:
    """Two streams at once, on one event loop."""
    await asyncio.gather(
        count_words(llm, "Write a haiku about the sea."),
        count_words(llm, "Prove that 7 is a prime number."),
    )


def leave(llm: ChatLunar) -> None:
    """Whoever has seen enough closes the stream: the connection ends, and the service stops writing."""
    with closing(llm.stream("Count to 1000.")) as stream:
        for number, chunk in enumerate(stream):
            print(chunk.text, end="")
            if number == 10:
                break
    print("… that's enough.")


def main() -> None:
    """Stream in each of these ways."""
    llm = ChatLunar(model="router")
    tell(llm, "Write a story about a cat and a door.")
    asyncio.run(count_both(llm))
    leave(llm)


if __name__ == "__main__":
    with service(delay=0.01):
        main()
