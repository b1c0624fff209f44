"""trio, on which AsyncLunar has no connections of its own: it says so, and takes an httpx client."""

import json
import sys

import httpx
import trio

from lunar_core import AsyncLunar, LunarError

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


async def main():
    try:
        await AsyncLunar().chat.completions.create(**CALL)
    except LunarError as error:
        refusal = f"{type(error).__name__}: {error}"
    async with httpx.AsyncClient() as client:
        answer = await AsyncLunar(http_client=client).chat.completions.create(**CALL)
    sys.stdout.write(json.dumps([refusal, answer.choices[0].message.content]) + "\n")


trio.run(main)
