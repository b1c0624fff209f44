"""The one answer that every mock gives, and each way to ask for it. Programs that use this run with ``-p answers``.

A client is new, or was made and used before the tool was switched on.
"""

import asyncio
import itertools
import json
import os
from dataclasses import dataclass

import pytest

from lunar_core import AsyncLunar, Lunar

URL = os.environ["SANDBOX_URL"]
SETTINGS = {"api_key": os.environ["SANDBOX_KEY"], "base_url": URL, "max_retries": 0}
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}

MARKS = {"id": "chatcmpl_1", "model": "gpt-4o-mini"}
MESSAGE = {"role": "assistant", "content": "from the mock"}
PLAIN = MARKS | {"choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}]}
CHUNK = MARKS | {"choices": [{"index": 0, "finish_reason": "stop", "delta": MESSAGE}]}


@dataclass
class Question:
    """A way to ask, with what the service would answer: `body`, of `content_type`."""

    client: Lunar | AsyncLunar
    is_streamed: bool

    @property
    def body(self):
        return (
            f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"
            if self.is_streamed
            else json.dumps(PLAIN)
        )

    @property
    def content_type(self):
        return "text/event-stream" if self.is_streamed else "application/json"

    def ask(self):
        """The answer's text."""
        if isinstance(self.client, AsyncLunar):
            return asyncio.run(self._aask())
        answer = self.client.chat.completions.create(**CALL, stream=self.is_streamed)
        if self.is_streamed:
            return "".join(chunk.choices[0].delta.content for chunk in answer)
        return answer.choices[0].message.content

    async def _aask(self):
        answer = await self.client.chat.completions.create(**CALL, stream=self.is_streamed)
        if self.is_streamed:
            return "".join([chunk.choices[0].delta.content async for chunk in answer])
        return answer.choices[0].message.content


@pytest.fixture(scope="session")
def used_clients():
    """Those that asked before any tool was switched on."""
    client, async_client = Lunar(**SETTINGS), AsyncLunar(**SETTINGS)
    client.models.list()
    asyncio.run(async_client.models.list())
    return {Lunar: client, AsyncLunar: async_client}


WAYS = list(itertools.product(["new", "used"], [Lunar, AsyncLunar], [False, True]))


def name_of(way):
    age, kind, is_streamed = way
    return f"{age}-{kind.__name__}-{'streamed' if is_streamed else 'plain'}"


@pytest.fixture(params=WAYS, ids=name_of)
def question(request, used_clients):
    age, kind, is_streamed = request.param
    return Question(used_clients[kind] if age == "used" else kind(**SETTINGS), is_streamed)
