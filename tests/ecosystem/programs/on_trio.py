"""trio, on which AsyncLunar has no connections of its own: it says so. With an httpx client it waits and retries."""

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
        patient = AsyncLunar(http_client=client, max_retries=1, fallbacks=[CALL["model"]])
        answer = await patient.chat.completions.create(**CALL | {"model": "gpt-4o-mini!503"})
    sys.stdout.write(json.dumps([refusal, answer.choices[0].message.content]) + "\n")


trio.run(main)
