"""Calls of every kind, numbered: through which door they are made, and what becomes of each."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from langchain_core.caches import InMemoryCache
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import ChatMessage

from langchain_lunar import ChatLunar, LunarCostCallbackHandler
from llama_index_lunar import LunarCostCallback, LunarLLM
from lunar_core import AsyncLunar, Budget, Ledger, Lunar, LunarError, tags

AT_ONCE = 8
"""Threads, and as many tasks beside them, in each process."""


@dataclass(frozen=True)
class Ending:
    """What becomes of a call: ``options`` bring it about, ``status`` is the entry's.

    ``is_priced``: whether the entry has a cost; None where that depends on who is quicker.
    """

    status: str = "ok"
    options: dict = field(default_factory=dict)
    is_streamed: bool = False
    is_priced: bool | None = True


def fails(fault, **options):
    return {"model": f"gpt-4o-mini!{fault}", "max_retries": 0} | options


LEAVING = {"status": "aborted", "is_streamed": True}
ENDINGS = {
    "answered": Ending(),
    "routed": Ending(options={"model": "router"}),
    "streamed": Ending(is_streamed=True),
    "streamed by the router": Ending(options={"model": "router"}, is_streamed=True),
    "streamed without usage": Ending(
        options={"extra_headers": {"x-sandbox-usage": "none"}}, is_streamed=True, is_priced=False
    ),
    "closed when all was sent": Ending(is_priced=None, **LEAVING),
    "closed in the middle": Ending(options=fails("hang-mid=5"), is_priced=False, **LEAVING),
    "dropped": Ending(options=fails("hang-mid=5"), is_priced=False, **LEAVING),
    "refused": Ending("failed", fails("400"), is_priced=False),
    "refused as a stream": Ending("failed", fails("400"), is_streamed=True, is_priced=False),
    "cut in half": Ending("failed", fails("truncated"), is_priced=False),
    "hung up on": Ending("failed", fails("hangup-mid"), is_priced=False),
    "reset in the middle": Ending("failed", fails("reset-mid"), is_streamed=True, is_priced=False),
    "failed in the middle": Ending("failed", fails("error-mid"), is_streamed=True, is_priced=False),
    "retried": Ending(options=fails("503*1", max_retries=1)),
    "retried as a stream": Ending(options=fails("429-ms=0.01*1", max_retries=1), is_streamed=True),
    "retried after half an answer": Ending(options=fails("hangup-mid*1", max_retries=1)),
    "fallen back": Ending(options=fails("502", fallbacks=["gpt-4o"])),
    "fallen back as a stream": Ending(options=fails("503", fallbacks=["gpt-4o"]), is_streamed=True),
    "fallen back after half an answer": Ending(options=fails("hangup-mid", fallbacks=["gpt-4o"])),
    "cancelled": Ending("aborted", fails("hang-mid"), is_priced=False),
    "cached": Ending(),
}
"""By name. Whoever leaves a stream has read two pieces of it."""


@dataclass(frozen=True)
class Case:
    """One call."""

    number: int
    door: str
    colour: str
    ending: str

    @property
    def question(self):
        return f"Repeat: the router reads each prompt and names who errs least, as in case {self.number}."


def cases(count):
    """The first ``count`` of a series in which each door meets each ending in threads and in tasks."""
    combinations = [
        combination
        for combination in itertools.product(DOORS, ("threads", "tasks"), ENDINGS)
        if may_be(*combination)
    ]
    endless = zip(itertools.count(), itertools.cycle(combinations), strict=False)
    return [Case(number, *combination) for number, combination in itertools.islice(endless, count)]


def may_be(door, colour, ending):
    """Threads cannot be cancelled, and of the three only LangChain has a cache."""
    return {"cancelled": colour == "tasks", "cached": door == "langchain"}.get(ending, True)


class Core:
    """Lunar and AsyncLunar."""

    def __init__(self, settings, ledger, budgets):
        self.client = Lunar(**settings, observers=[ledger, *budgets])
        self.async_client = AsyncLunar(**settings, observers=[ledger, *budgets])

    def answer(self, question, **options):
        self.client.chat.completions.create(**self.params(question, options))

    def stream(self, question, **options):
        return self.client.chat.completions.create(**self.params(question, options), stream=True)

    async def aanswer(self, question, **options):
        await self.async_client.chat.completions.create(**self.params(question, options))

    async def astream(self, question, **options):
        params = self.params(question, options)
        return await self.async_client.chat.completions.create(**params, stream=True)

    def params(self, question, options):
        messages = [{"role": "user", "content": question}]
        return {"model": "gpt-4o-mini", "messages": messages} | options


class LangChain:
    """ChatLunar, whose ledger is told by the client and by a handler."""

    def __init__(self, settings, ledger, budgets):
        keywords = {
            "observers": [ledger, *budgets],
            "callbacks": [LunarCostCallbackHandler(ledger)],
        }
        self.model = ChatLunar(model="gpt-4o-mini", **settings, **keywords)
        self.cached_model = ChatLunar(
            model="gpt-4o-mini", **settings, **keywords, cache=InMemoryCache()
        )

    def answer(self, question, **options):
        self.model.invoke(question, **options)

    def cached(self, question):
        self.cached_model.invoke(question)

    def stream(self, question, **options):
        return self.model.stream(question, **options)

    async def aanswer(self, question, **options):
        await self.model.ainvoke(question, **options)

    async def acached(self, question):
        await self.cached_model.ainvoke(question)

    async def astream(self, question, **options):
        return self.model.astream(question, **options)


class LlamaIndex:
    """LunarLLM, whose ledger is told by the client and by a callback."""

    def __init__(self, settings, ledger, budgets):
        self.llm = LunarLLM(
            model="gpt-4o-mini",
            api_base=settings["base_url"],
            api_key=settings["api_key"],
            observers=[ledger, *budgets],
            callback_manager=CallbackManager([LunarCostCallback(ledger)]),
        )

    def answer(self, question, **options):
        self.llm.chat([ChatMessage(question)], **options)

    def stream(self, question, **options):
        return self.llm.stream_chat([ChatMessage(question)], **options)

    async def aanswer(self, question, **options):
        await self.llm.achat([ChatMessage(question)], **options)

    async def astream(self, question, **options):
        return await self.llm.astream_chat([ChatMessage(question)], **options)


DOORS = {"core": Core, "langchain": LangChain, "llama_index": LlamaIndex}


def make_calls(where, url, api_key, todo, **budget):
    """Make the calls of these cases, in threads and in tasks at once, with a ledger and a Budget of these settings."""
    with Ledger.open(where, flush_seconds=0.02) as ledger:
        settings = {"api_key": api_key, "base_url": url}
        budgets = [Budget(**budget, ledger=ledger)] if budget else []
        doors = {name: door(settings, ledger, budgets) for name, door in DOORS.items()}
        in_tasks = [case for case in todo if case.colour == "tasks"]
        in_threads = [case for case in todo if case.colour == "threads"]
        with ThreadPoolExecutor(AT_ONCE + 1) as threads:
            tasks = threads.submit(asyncio.run, make_in_tasks(doors, in_tasks))
            list(threads.map(lambda case: make(doors[case.door], case), in_threads))
            tasks.result()


def make(door, case):
    """Make the call, in this thread."""
    ending = ENDINGS[case.ending]
    with ExitStack() as block:
        block.enter_context(suppress(LunarError))
        if case.ending == "cached":
            with tags(case=f"{case.number} before"):
                door.cached(case.question)
            with tags(case=str(case.number)):
                door.cached(case.question)
            return
        block.enter_context(tags(case=str(case.number)))
        if not ending.is_streamed:
            door.answer(case.question, **ending.options)
            return
        pieces = door.stream(case.question, **ending.options)
        if ending.status != "aborted":
            for _ in pieces:
                pass
            return
        next(pieces), next(pieces)
        if case.ending != "dropped":
            pieces.close()


async def make_in_tasks(doors, todo):
    """Make the calls in tasks, some at a time."""
    left = iter(todo)

    async def work():
        for case in left:
            await amake(doors[case.door], case)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def amake(door, case):
    """Make the call, in this task."""
    ending = ENDINGS[case.ending]
    with ExitStack() as block:
        block.enter_context(suppress(LunarError))
        if case.ending == "cached":
            with tags(case=f"{case.number} before"):
                await door.acached(case.question)
            with tags(case=str(case.number)):
                await door.acached(case.question)
            return
        block.enter_context(tags(case=str(case.number)))
        if case.ending == "cancelled":
            asking = asyncio.create_task(door.aanswer(case.question, **ending.options))
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.wait([asking])
            return
        if not ending.is_streamed:
            await door.aanswer(case.question, **ending.options)
            return
        pieces = await door.astream(case.question, **ending.options)
        if ending.status != "aborted":
            async for _ in pieces:
                pass
            return
        await anext(pieces), await anext(pieces)
        if case.ending != "dropped":
            await pieces.aclose()
