"""Calls in each way: sync and async, plain and streamed. A program that imports this brings one tracing tool."""

import asyncio
import json
import sys

from lunar_core import AsyncLunar, Lunar

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


def call_plain(client):
    client.chat.completions.create(**CALL)


def call_streamed(client):
    for _ in client.chat.completions.create(**CALL, stream=True):
        pass


async def acall_plain(client):
    await client.chat.completions.create(**CALL)


async def acall_streamed(client):
    async for _ in await client.chat.completions.create(**CALL, stream=True):
        pass


def main(tool):
    """Switch `tool` on before or after the clients were made and used, as the first word says; print what it saw.

    `tool` has `switch_on()`, `span(name)` (a context manager that gives the trace's id) and `http_spans()`.
    """
    when = sys.argv[1]
    traces = {}
    if when == "before":
        tool.switch_on()
    client = Lunar()
    if when == "after":
        call_plain(client)

    async def run_async():
        async with AsyncLunar() as aclient:
            if when == "after":
                await acall_plain(aclient)
                call_streamed(client)
                tool.switch_on()
            for way in (acall_plain, acall_streamed):
                with tool.span(way.__name__) as trace:
                    traces[way.__name__] = trace
                    await way(aclient)

    asyncio.run(run_async())
    with client:
        for way in (call_plain, call_streamed):
            with tool.span(way.__name__) as trace:
                traces[way.__name__] = trace
                way(client)
    sys.stdout.write(json.dumps({"traces": traces, "http_spans": tool.http_spans()}) + "\n")
