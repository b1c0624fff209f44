"""Calls of an async client that nothing is put round, and waits for what they leave behind."""

import asyncio
import time

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


async def ask(client, way, **params):
    """`way.ask` for a client that nothing is put round."""
    question = QUESTION | params
    if not way.streamed:
        return await client.chat.completions.create(**question)
    async with await client.chat.completions.create(**question, stream=True) as stream:
        return [part async for part in stream]


async def wait_until(condition, *, within=2.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.002)
