"""nest_asyncio, as notebooks use it: a call inside a running loop, and nothing said as the program ends."""

import asyncio
import json
import sys

import nest_asyncio

from lunar_core import AsyncLunar

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


async def ask(client):
    stream = await client.chat.completions.create(**CALL, stream=True)
    async for _ in stream:
        break
    return (await client.chat.completions.create(**CALL)).choices[0].message.content


async def cell():
    client = AsyncLunar()  # never closed, as in a cell
    return asyncio.get_running_loop().run_until_complete(ask(client))


nest_asyncio.apply()
sys.stdout.write(json.dumps([asyncio.run(cell()), asyncio.run(cell())]) + "\n")
