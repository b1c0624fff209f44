"""Attributes each call to the ledgers and tags of the place that makes it, not of the place that reads its stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, closing, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from llama_index.core.callbacks import CallbackManager
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from llama_index_lunar import tracing
from lunar_core.cost.ledger import Ledger
from lunar_core.cost.view import CostView
from lunar_core.observers import current_tags, tags, within_span

R = TypeVar("R")

LEDGERS: ContextVar[tuple[Ledger, ...]] = ContextVar("lunar_ledgers", default=())
"""The ledgers that count the calls made here."""


@contextmanager
def attribute_calls(
    callbacks: CallbackManager | None, own_tags: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A context for making a call: LlamaIndex's tags count as ours, and the callback manager's ledgers count the call.

    ``own_tags``: the LLM's. If several set the same tag, ``lunar_core.tags`` overrides LlamaIndex's, which override the
    LLM's: the first exist for costs alone.
    """
    ours = current_tags()
    theirs = {str(name): value for name, value in active_instrument_tags.get().items()}
    handlers = getattr(callbacks, "handlers", None) or ()
    ledgers = tuple(h.ledger for h in handlers if isinstance(h, CostView))
    token = LEDGERS.set((*LEDGERS.get(), *ledgers))
    try:
        # Workflows tag each step with the beginning of its input, which must not get into a ledger.
        theirs = {n: v for n, v in theirs.items() if not n.startswith("llamaindex.step.")}
        with (
            tags(**{**(own_tags or {}), **theirs, **ours}),
            within_span(tracing.current_otel_span),
        ):
            yield
    finally:
        LEDGERS.reset(token)


class Attribution:
    """The ledgers and tags of the place that makes this object. False if there are none."""

    def __init__(self) -> None:
        self.ledgers = LEDGERS.get()
        self.tags = current_tags()
        self.instrument_tags = active_instrument_tags.get()

    def __bool__(self) -> bool:
        return bool(self.ledgers or self.tags or self.instrument_tags)

    @contextmanager
    def restore(self) -> Iterator[None]:
        """A context whose calls are attributed to that place."""
        token = LEDGERS.set(self.ledgers)
        try:
            with tags(**self.tags), instrument_tags(self.instrument_tags):
                yield
        finally:
            LEDGERS.reset(token)


def read_within(
    make_block: Callable[[], AbstractContextManager[None]], stream: Generator[R, None, None]
) -> Generator[R, None, None]:
    """Yield from ``stream``; each step runs in a context that ``make_block()`` makes."""
    with closing(stream):
        while True:
            with make_block():
                item = next(stream, _END)
            if item is _END:
                return
            yield item


async def aread_within(
    make_block: Callable[[], AbstractContextManager[None]], stream: AsyncGenerator[R, None]
) -> AsyncGenerator[R, None]:
    """The same for asyncio."""
    async with aclosing(stream):
        while True:
            with make_block():
                item = await anext(stream, _END)
            if item is _END:
                return
            yield item


_END: Any = object()
