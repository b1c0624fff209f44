"""Each way in which LangChain asks a routed model: its message."""

from langchain_lunar import ChatLunar

PROMPT = "Prove that 2 is even"


def new_model(**settings):
    return ChatLunar(model="router", **settings)


def added(chunks):
    first, *rest = chunks
    return first.__add__(rest)


async def invoke(model, config):
    return model.invoke(PROMPT, config)


async def stream(model, config):
    return added(list(model.stream(PROMPT, config)))


async def ainvoke(model, config):
    return await model.ainvoke(PROMPT, config)


async def astream(model, config):
    return added([chunk async for chunk in model.astream(PROMPT, config)])


WAYS = {way.__name__: way for way in (invoke, stream, ainvoke, astream)}


def stated(message):
    """What the service stated, by the names of the tests."""
    metadata = message.response_metadata
    return {"model": metadata["model_name"], "cost": metadata["total_cost_usd"]}
