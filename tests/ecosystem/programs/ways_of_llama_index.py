"""Each way in which LlamaIndex asks a routed LLM: its last response."""

from llama_index.core.llms import ChatMessage

from llama_index_lunar import LunarLLM

MESSAGES = [ChatMessage("Prove that 2 is even", role="user")]


def new_llm(**settings):
    return LunarLLM(model="router", **settings)


async def chat(llm):
    return llm.chat(MESSAGES)


async def stream_chat(llm):
    return list(llm.stream_chat(MESSAGES))[-1]


async def achat(llm):
    return await llm.achat(MESSAGES)


async def astream_chat(llm):
    return [response async for response in await llm.astream_chat(MESSAGES)][-1]


async def complete(llm):
    return llm.complete("Prove that 2 is even")


async def astream_complete(llm):
    answer = await llm.astream_complete("Prove that 2 is even")
    return [response async for response in answer][-1]


WAYS = {
    way.__name__: way
    for way in (chat, stream_chat, achat, astream_chat, complete, astream_complete)
}
