"""What the tests of LlamaIndex's layer share."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import Field

from llama_index_lunar import LunarLLM, LunarUsageEvent

ENDPOINTS = [
    "chat",
    "achat",
    "stream_chat",
    "astream_chat",
    "complete",
    "acomplete",
    "stream_complete",
    "astream_complete",
]
STREAMS = [name for name in ENDPOINTS if "stream" in name]


class Recorder(BaseEventHandler):
    """Keeps every event."""

    events: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def usage(self) -> list[LunarUsageEvent]:
        return self.of(LunarUsageEvent)

    @property
    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]


class BagOfWords(BaseEmbedding):
    """A local embedding: one dimension for each hash of a word, so that texts are near that share words."""

    size: int = 512

    def _embed(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in re.findall(r"[a-z]{4,}", text.lower()):
            vector[zlib.crc32(word.encode()) % self.size] += 1.0
        return vector if any(vector) else [1.0] * self.size

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)


async def until(condition: Callable[[], object], *, within: float = 5.0) -> None:
    """Return as soon as `condition()` holds; what is dropped is let go of by the collector and the loop."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        gc.collect()
        await asyncio.sleep(0.005)


def assert_booked(costs: Any, sandbox: Any, *, silent: bool = False) -> None:
    """All that was billed is booked; what a `silent` stream did not tell is known to be missing."""
    if silent:
        assert costs.unpriced > 0
    else:
        assert costs.total_cost == sandbox.total_billed() > 0
        assert costs.unpriced == 0


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(text, role="user")]


async def ask(llm: LunarLLM, endpoint: str, prompt: str = "Say hello there", **kwargs: Any) -> list:
    """All responses of one endpoint: one, or each of a stream."""
    said: Any = prompt if "complete" in endpoint else user(prompt)
    answer = getattr(llm, endpoint)(said, **kwargs)
    if endpoint.startswith("a"):
        answer = await answer
    if "stream" not in endpoint:
        return [answer]
    if endpoint.startswith("a"):
        return [each async for each in answer]
    return list(answer)


def text_of(response: Any) -> str:
    return response.text if hasattr(response, "text") else response.message.content


def request_body(request: dict[str, Any]) -> dict[str, Any]:
    """What the sandbox logged as a request's body."""
    return json.loads(request["body"])


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """Tell the time of a city."""
    return f"noon in {city}"


WEATHER = FunctionTool.from_defaults(get_weather)
TIME = FunctionTool.from_defaults(get_time)
