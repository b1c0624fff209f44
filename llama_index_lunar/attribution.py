"""Where calls are booked: in the ledgers and under the tags of the place that makes them, not that reads them."""

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
"""The ledgers that want to hear of the calls made here."""


@contextmanager
def attributed(
    callbacks: CallbackManager | None, own_tags: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Around the making of a call: LlamaIndex's tags count as ours, and the manager's cost handlers hear of it.

    ``own_tags``: the LLM's own. Where several name the same tag, ``lunar_core.tags`` wins: it says on purpose what
    costs are to be booked on; then LlamaIndex's, then the LLM's.
    """
    ours = current_tags()
    theirs = {str(name): value for name, value in active_instrument_tags.get().items()}
    handlers = getattr(callbacks, "handlers", None) or ()
    ledgers = tuple(h.ledger for h in handlers if isinstance(h, CostView))
    token = LEDGERS.set((*LEDGERS.get(), *ledgers))
    try:
        # Workflows stamp the beginning of each step's input on it, which is no business of a ledger.
        theirs = {n: v for n, v in theirs.items() if not n.startswith("llamaindex.step.")}
        with (
            tags(**{**(own_tags or {}), **theirs, **ours}),
            within_span(tracing.current_otel_span),
        ):
            yield
    finally:
        LEDGERS.reset(token)


class Attribution:
    """The ledgers and tags on which calls are booked where this is made. False where there are none."""

    def __init__(self) -> None:
        self.ledgers = LEDGERS.get()
        self.tags = current_tags()
        self.instrument_tags = active_instrument_tags.get()

    def __bool__(self) -> bool:
        return bool(self.ledgers or self.tags or self.instrument_tags)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A block whose calls are booked as if they were made there."""
        token = LEDGERS.set(self.ledgers)
        try:
            with tags(**self.tags), instrument_tags(self.instrument_tags):
                yield
        finally:
            LEDGERS.reset(token)


def read_within(
    make_block: Callable[[], AbstractContextManager[None]], stream: Generator[R, None, None]
) -> Generator[R, None, None]:
    """``stream``, each of its steps taken within a block that ``make_block()`` makes."""
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
