"""The one answer that every mock gives, and the calls that it must keep at home."""

import os

from lunar_core import AsyncLunar, Lunar

URL = os.environ["SANDBOX_URL"]
SETTINGS = {"api_key": os.environ["SANDBOX_KEY"], "base_url": URL, "max_retries": 0}

ANSWER = {
    "id": "chatcmpl_1",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "from the mock"},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


def text_of(client):
    return client.chat.completions.create(**CALL).choices[0].message.content


async def atext_of(client):
    answer = await client.chat.completions.create(**CALL)
    return answer.choices[0].message.content


def new_client(**settings):
    return Lunar(**SETTINGS, **settings)


def new_async_client(**settings):
    return AsyncLunar(**SETTINGS, **settings)
