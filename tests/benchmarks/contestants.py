"""The clients that are compared, behind one interface: a plain call, and a stream whose texts are read.

Each class is made in a process of its own, imports its library in there, and uses it as its
documentation shows. Retries are left as each library has them: nothing here fails.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

MODEL = "gpt-4o-mini"
KEY = "pk_bench"
PROMPT = "Say hello to the other side."


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def count_words(url: str) -> int:
    """How many words the stream behind a base URL has: ``…/burst-2000``."""
    return int(url.rpartition("/")[2].partition("-")[2].partition("-")[0] or 0)


class Contestant:
    """``url`` is where the API is, without /v1. ``text`` reads one chunk."""

    clients = 1
    """How many of them ``__init__`` makes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, prompt: str) -> str:
        raise NotImplementedError

    async def acall(self, prompt: str) -> str:
        raise NotImplementedError

    def stream(self) -> Iterator[Any]:
        raise NotImplementedError

    async def astream(self) -> AsyncIterator[Any]:
        raise NotImplementedError

    def text(self, chunk: Any) -> str:
        return chunk.choices[0].delta.content or "" if chunk.choices else ""

    def count_frames(self, pieces: list[bytes]) -> int:
        """How many events its decoder finds in the reads of a stream."""
        raise NotImplementedError


class Httpx(Contestant):
    """The base of all ratios: httpx used plainly, as its quick start shows."""

    clients = 2

    def __init__(self, url: str) -> None:
        import httpx

        super().__init__(f"{url}/v1/chat/completions")
        headers = {"x-api-key": KEY}
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
        self.client = httpx.Client(headers=headers, limits=limits, timeout=600)
        self.aclient = httpx.AsyncClient(headers=headers, limits=limits, timeout=600)

    def body(self, prompt: str = PROMPT, **more: object) -> dict[str, Any]:
        return {"model": MODEL, "messages": messages(prompt), **more}

    def call(self, prompt: str) -> str:
        answer = self.client.post(self.url, json=self.body(prompt)).json()
        return answer["choices"][0]["message"]["content"]

    async def acall(self, prompt: str) -> str:
        answer = (await self.aclient.post(self.url, json=self.body(prompt))).json()
        return answer["choices"][0]["message"]["content"]

    def stream(self) -> Iterator[Any]:
        with self.client.stream("POST", self.url, json=self.body(stream=True)) as response:
            rest = b""
            for piece in response.iter_bytes():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        yield json.loads(event[6:])

    async def astream(self) -> AsyncIterator[Any]:
        return self._astream()

    async def _astream(self) -> AsyncIterator[Any]:
        body = self.body(stream=True)
        async with self.aclient.stream("POST", self.url, json=body) as response:
            rest = b""
            async for piece in response.aiter_bytes():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        yield json.loads(event[6:])

    def text(self, chunk: Any) -> str:
        return chunk["choices"][0]["delta"].get("content", "") if chunk["choices"] else ""

    def count_frames(self, pieces: list[bytes]) -> int:
        seen, rest = 0, b""
        for piece in pieces:
            *events, rest = (rest + piece).split(b"\n\n")
            seen += len([event[6:] for event in events])
        return seen


class OpenAIShaped(Contestant):
    """Clients whose surface is ``client.chat.completions.create``."""

    clients = 2
    client: Any
    aclient: Any

    def call(self, prompt: str) -> str:
        answer = self.client.chat.completions.create(model=MODEL, messages=messages(prompt))
        return answer.choices[0].message.content

    async def acall(self, prompt: str) -> str:
        answer = await self.aclient.chat.completions.create(model=MODEL, messages=messages(prompt))
        return answer.choices[0].message.content

    def stream(self) -> Iterator[Any]:
        return self.client.chat.completions.create(
            model=MODEL, messages=messages(PROMPT), stream=True
        )

    async def astream(self) -> AsyncIterator[Any]:
        return await self.aclient.chat.completions.create(
            model=MODEL, messages=messages(PROMPT), stream=True
        )


class LunarCore(OpenAIShaped):
    def __init__(self, url: str) -> None:
        from lunar_core import AsyncLunar, Lunar

        self.client = Lunar(KEY, base_url=url)
        self.aclient = AsyncLunar(KEY, base_url=url)

    def count_frames(self, pieces: list[bytes]) -> int:
        from lunar_core.wire.sse import SSEDecoder

        decoder = SSEDecoder()
        return sum(len(decoder.feed(piece)) for piece in pieces)


class LunarCorePlain(LunarCore):
    """``Stream.plain_chunks``, which the frameworks' layers read: chunks as decoded JSON."""

    def stream(self) -> Iterator[Any]:
        return super().stream().plain_chunks()

    async def astream(self) -> AsyncIterator[Any]:
        return (await super().astream()).plain_chunks()

    def text(self, chunk: Any) -> str:
        return chunk["choices"][0]["delta"].get("content") or ""


class OpenAI(OpenAIShaped):
    def __init__(self, url: str) -> None:
        from openai import AsyncOpenAI, OpenAI

        self.client = OpenAI(api_key=KEY, base_url=f"{url}/v1")
        self.aclient = AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1")

    def count_frames(self, pieces: list[bytes]) -> int:
        from openai._streaming import SSEDecoder

        return sum(1 for _ in SSEDecoder().iter_bytes(iter(pieces)))


class LunarSdk(OpenAIShaped):
    """The vendor's own client."""

    def __init__(self, url: str) -> None:
        from lunar import AsyncLunar, Lunar

        self.client = Lunar(KEY, base_url=url)
        self.aclient = AsyncLunar(KEY, base_url=url)

    async def astream(self) -> AsyncIterator[Any]:
        stream = self.aclient.chat.completions.create(
            model=MODEL, messages=messages(PROMPT), stream=True
        )
        return await stream if hasattr(stream, "__await__") else stream


class OpenRouter(Contestant):
    def __init__(self, url: str) -> None:
        from openrouter import OpenRouter

        self.client = OpenRouter(api_key=KEY, server_url=f"{url}/v1")

    def call(self, prompt: str) -> str:
        answer = self.client.chat.send(model=MODEL, messages=messages(prompt))
        return answer.choices[0].message.content

    async def acall(self, prompt: str) -> str:
        answer = await self.client.chat.send_async(model=MODEL, messages=messages(prompt))
        return answer.choices[0].message.content

    def stream(self) -> Iterator[Any]:
        return self.client.chat.send(model=MODEL, messages=messages(PROMPT), stream=True)

    async def astream(self) -> AsyncIterator[Any]:
        return await self.client.chat.send_async(
            model=MODEL, messages=messages(PROMPT), stream=True
        )


class LangChain(Contestant):
    """Any chat model of LangChain's."""

    llm: Any

    def call(self, prompt: str) -> str:
        return self.llm.invoke(prompt).content

    async def acall(self, prompt: str) -> str:
        return (await self.llm.ainvoke(prompt)).content

    def stream(self) -> Iterator[Any]:
        return self.llm.stream(PROMPT)

    async def astream(self) -> AsyncIterator[Any]:
        return self.llm.astream(PROMPT)

    def text(self, chunk: Any) -> str:
        return chunk.content


class ChatLunar(LangChain):
    def __init__(self, url: str) -> None:
        from langchain_lunar import ChatLunar

        self.llm = ChatLunar(model=MODEL, api_key=KEY, base_url=url)


class LangChainAlone(LangChain):
    """What LangChain itself costs: a model that has its words already. No layer on it can be quicker."""

    def __init__(self, url: str) -> None:
        from floor_langchain import Fake

        self.llm = Fake(words=count_words(url))


class VendorChatLunar(LangChain):
    def __init__(self, url: str) -> None:
        from lunar.integrations.langchain import ChatLunar

        self.llm = ChatLunar(model=MODEL, api_key=KEY, base_url=url)


class ChatOpenAI(LangChain):
    def __init__(self, url: str) -> None:
        from langchain_openai import ChatOpenAI

        self.llm = ChatOpenAI(model=MODEL, api_key=KEY, base_url=f"{url}/v1")


class ChatOpenRouter(LangChain):
    def __init__(self, url: str) -> None:
        from langchain_openrouter import ChatOpenRouter

        self.llm = ChatOpenRouter(model=MODEL, api_key=KEY, base_url=f"{url}/v1")


class ChatLiteLLM(LangChain):
    def __init__(self, url: str) -> None:
        from langchain_litellm import ChatLiteLLM

        self.llm = ChatLiteLLM(model=f"openai/{MODEL}", api_key=KEY, api_base=f"{url}/v1")


class LlamaIndex(Contestant):
    """Any LLM of LlamaIndex's."""

    llm: Any

    def messages(self, prompt: str) -> list[Any]:
        from llama_index.core.llms import ChatMessage

        return [ChatMessage(role="user", content=prompt)]

    def call(self, prompt: str) -> str:
        return self.llm.chat(self.messages(prompt)).message.content

    async def acall(self, prompt: str) -> str:
        return (await self.llm.achat(self.messages(prompt))).message.content

    def stream(self) -> Iterator[Any]:
        return self.llm.stream_chat(self.messages(PROMPT))

    async def astream(self) -> AsyncIterator[Any]:
        return await self.llm.astream_chat(self.messages(PROMPT))

    def text(self, chunk: Any) -> str:
        return chunk.delta or ""


class LunarLLM(LlamaIndex):
    def __init__(self, url: str) -> None:
        from llama_index_lunar import LunarLLM

        self.llm = LunarLLM(model=MODEL, api_key=KEY, api_base=url)


class LlamaIndexAlone(LlamaIndex):
    """What LlamaIndex itself costs: an LLM that has its words already. No layer on it can be quicker."""

    def __init__(self, url: str) -> None:
        from floor_llama_index import Fake

        self.llm = Fake(words=count_words(url))


class VendorLunarLLM(LlamaIndex):
    def __init__(self, url: str) -> None:
        from lunar.integrations.llamaindex import LunarLLM

        self.llm = LunarLLM(model=MODEL, api_key=KEY, base_url=url)


class OpenAILike(LlamaIndex):
    def __init__(self, url: str) -> None:
        from llama_index.llms.openai_like import OpenAILike

        self.llm = OpenAILike(model=MODEL, api_key=KEY, api_base=f"{url}/v1", is_chat_model=True)


class LlamaOpenRouter(LlamaIndex):
    def __init__(self, url: str) -> None:
        from llama_index.llms.openrouter import OpenRouter

        self.llm = OpenRouter(model=MODEL, api_key=KEY, api_base=f"{url}/v1")


class LlamaLiteLLM(LlamaIndex):
    def __init__(self, url: str) -> None:
        from llama_index.llms.litellm import LiteLLM

        self.llm = LiteLLM(model=f"openai/{MODEL}", api_key=KEY, api_base=f"{url}/v1")


@dataclass(frozen=True)
class Group:
    ours: str
    peers: tuple[str, ...]
    floor: str | None = None
    """The framework without any layer: named apart, as it reaches nobody."""


MODES = {"sync": True, "async": False}
REFERENCE = "httpx"
CORE = Group("lunar_core", ("lunar-sdk", "openai", "openrouter"))
LANGCHAIN = Group(
    "ChatLunar",
    ("vendor's ChatLunar", "ChatOpenAI", "ChatOpenRouter", "ChatLiteLLM"),
    "LangChain alone",
)
LLAMA_INDEX = Group(
    "LunarLLM",
    ("vendor's LunarLLM", "OpenAILike", "OpenRouter for LlamaIndex", "LiteLLM for LlamaIndex"),
    "LlamaIndex alone",
)
PEERS = {*CORE.peers, *LANGCHAIN.peers, *LLAMA_INDEX.peers} - {"lunar-sdk"}
"""Those that a short run leaves out: all but the one that a line compares with."""
SLOW = {"openrouter", "ChatOpenRouter", "ChatLiteLLM", "LiteLLM for LlamaIndex"}

CONTESTANTS: dict[str, Callable[[str], Contestant]] = {
    REFERENCE: Httpx,
    "lunar_core": LunarCore,
    "lunar_core plain": LunarCorePlain,
    "lunar-sdk": LunarSdk,
    "openai": OpenAI,
    "openrouter": OpenRouter,
    "ChatLunar": ChatLunar,
    "LangChain alone": LangChainAlone,
    "vendor's ChatLunar": VendorChatLunar,
    "ChatOpenAI": ChatOpenAI,
    "ChatOpenRouter": ChatOpenRouter,
    "ChatLiteLLM": ChatLiteLLM,
    "LunarLLM": LunarLLM,
    "LlamaIndex alone": LlamaIndexAlone,
    "vendor's LunarLLM": VendorLunarLLM,
    "OpenAILike": OpenAILike,
    "OpenRouter for LlamaIndex": LlamaOpenRouter,
    "LiteLLM for LlamaIndex": LlamaLiteLLM,
}
