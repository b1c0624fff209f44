"""Callback handlers that add up what runs cost: thin views on a ``lunar_core.Ledger``.

A handler only records. A call is refused in the client (``lunar_core.Observer``), because LangChain swallows what
handlers raise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_lunar.connection import COST_TAGS
from langchain_lunar.entries import OpenRun, RunReport, was_sent
from lunar_core import Entry, Ledger, Totals, current_tags
from lunar_core.cost.ledger import checked_ledger
from lunar_core.cost.view import CostView

MAX_RUNS = 10_000
"""How many unfinished runs are kept. Beyond that, the least recently used are forgotten."""

V = TypeVar("V")


class LunarCostCallbackHandler(CostView, BaseCallbackHandler):
    """Adds up what every model call under it costs, in sync and async code alike.

    Give it to a model, to a call (``config={"callbacks": [handler]}``) or to both: a call counts once. Streams that
    failed or were left early count as far as the service stated their usage. An answer from LangChain's cache costs
    nothing and adds to ``saved``. Models of other vendors count as ``unpriced``, with their tokens. ``ledger``: one to
    share with others; default a new one.

    Costs are exact USD, as the service billed them. Safe to share between threads and event loops. On Python 3.10,
    LangChain loses the config of an agent's or graph's run in async code: there, give the handler to the model.

    >>> cost = LunarCostCallbackHandler()
    >>> answer = ChatLunar(model="gpt-4o").invoke("Count to 5", config={"callbacks": [cost]})
    >>> cost.total_cost, cost.total_tokens, cost.unpriced
    (Decimal('0.000065'), 11, 0)
    """

    # Bookkeeping takes microseconds: in async code it is done on the event loop, in order.
    run_inline = True

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = Ledger() if ledger is None else checked_ledger(ledger)
        self._outer: LunarCostCallbackHandler | None = None
        self._runs: _Recent[OpenRun] = _Recent()
        self._roots: _Recent[_Root] = _Recent()
        self._ended: _Recent[UUID] = _Recent()

    @property
    def saved(self) -> Decimal:
        """USD that the answers from LangChain's cache would have cost again."""
        return self.ledger.total.saved

    @property
    def by_run_tag(self) -> dict[str, Totals]:
        """Totals by LangChain's tags. A call with two tags counts in both."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.ledger:
            for tag in _label(entry, "tags", ()):
                groups.setdefault(tag, []).append(entry)
        return {tag: Totals.of(entries) for tag, entries in groups.items()}

    def by_metadata(self, key: str) -> dict[Hashable, Totals]:
        """Totals by one key of LangChain's metadata (``config={"metadata": {"user": "u1"}}``); None without it."""
        return self.ledger.by(lambda entry: _hashable(_label(entry, "metadata", {}).get(key)))

    @property
    def by_node(self) -> dict[Hashable, Totals]:
        """Totals by the node of a LangGraph graph, such as an agent's "model"; None outside of graphs."""
        return self.by_metadata("langgraph_node")

    @property
    def by_run_name(self) -> dict[str | None, Totals]:
        """Totals by the name of the model's run: the config's ``run_name``, else the model's class."""
        return self.ledger.by(lambda entry: _label(entry, "run_name", None))

    @property
    def by_root_run(self) -> dict[str | None, Totals]:
        """Totals by the id of the outermost run that this handler saw around the call, such as an agent's run."""
        return self.ledger.by(lambda entry: _label(entry, "root_run_id", None))

    # What a call belongs to is known only at its start

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep which run this one is part of."""
        self._enter(run_id, parent_run_id, _name(serialized, kwargs))

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep which run this one is part of: a tool may call models."""
        self._enter(run_id, parent_run_id, _name(serialized, kwargs))

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep which run this one is part of: a retriever may call models."""
        self._enter(run_id, parent_run_id, _name(serialized, kwargs))

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the run's names, tags and metadata for its entry."""
        self._begin("chat.completions", run_id, parent_run_id, _name(serialized, kwargs), kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the run's names, tags and metadata for its entry."""
        self._begin("completions", run_id, parent_run_id, _name(serialized, kwargs), kwargs)

    # The end of a call

    def on_llm_new_token(
        self, token: object, *, chunk: Generation | None = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """Keep what a chunk states about its call, in case the stream is left before its end."""
        run = self._runs.get(run_id)
        if run is not None and chunk is not None:
            run.hear(chunk)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the call."""
        self._ended.put(run_id, run_id)
        self._settle(RunReport.of_answer(self._take(run_id), response))

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the call, with the usage that a stream stated before it broke off."""
        if self._ended.get(run_id) is not None:
            return  # already recorded: if an event loop closes just then, LangChain reports both
        run = self._take(run_id)
        if was_sent(error):
            self._settle(RunReport.of_error(run, error, response))

    def _enter(self, run_id: UUID, parent_run_id: UUID | None, name: str | None) -> _Root:
        """Keep the outermost run around this one, and return it."""
        root = _Root(run_id, name)
        if parent_run_id is not None:
            root = self._roots.get(parent_run_id) or _Root(parent_run_id)
        self._roots.put(run_id, root)
        return root

    def _begin(
        self,
        endpoint: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        kwargs: Mapping[str, Any],
    ) -> None:
        root = self._enter(run_id, parent_run_id, name)
        metadata = dict(kwargs.get("metadata") or {})
        labels: dict[str, object] = {
            "run_id": str(run_id),
            "run_name": name,
            "root_run_id": str(root.run_id),
            "root_run_name": root.name,
            "tags": tuple(kwargs.get("tags") or ()),
            "metadata": metadata,
        }
        own_tags = metadata.get(COST_TAGS)
        tags = {**(own_tags if isinstance(own_tags, Mapping) else {}), **current_tags()}
        self._runs.put(run_id, OpenRun(endpoint, labels, tags))

    def _take(self, run_id: UUID) -> OpenRun:
        """Remove and return a run that has ended. A handler that joined later knows only its id."""
        return self._runs.take(run_id) or OpenRun("", {"run_id": str(run_id)}, {})

    def _settle(self, report: RunReport) -> None:
        """Record a call, unless it is recorded already."""
        entry = report.entry
        if report.from_cache or not self.ledger.add(entry):
            first = self.ledger.get(entry.call_id)
            if report.repeats(first):
                self.ledger.add(report.as_hit())
            elif first is not None and not first.labels:
                self.ledger.label(
                    entry.call_id, entry.labels
                )  # an observer of the client had recorded the call, without labels
        if self._outer is not None:
            self._outer._settle(report)


_COST: ContextVar[LunarCostCallbackHandler | None] = ContextVar("lunar_cost", default=None)
# Once per process: every later run evaluates each hook.
register_configure_hook(_COST, inheritable=True)


@contextmanager
def get_lunar_cost(ledger: Ledger | None = None) -> Iterator[LunarCostCallbackHandler]:
    """Add up what the model calls in this block cost, wherever in it they are made.

    Blocks nest: the calls of an inner block count in the outer ones too. Batches, asyncio tasks and
    ``langchain_core``'s own threads carry the block along. A thread of yours does not: start it with
    ``contextvars.copy_context().run``, or give the handler to the calls (``config={"callbacks": [cost]}``).

    >>> with get_lunar_cost() as cost:
    ...     answer = chain.invoke({"topic": "cats"})
    >>> cost.total_cost
    Decimal('0.000045')
    """
    handler = LunarCostCallbackHandler(ledger)
    handler._outer = _COST.get()
    token = _COST.set(handler)
    try:
        yield handler
    finally:
        _COST.reset(token)


@dataclass(frozen=True)
class _Root:
    run_id: UUID
    name: str | None = None


class _Recent(Generic[V]):
    """A mapping of the MAX_RUNS most recently used runs: runs that never end must not pile up."""

    def __init__(self) -> None:
        self._items: OrderedDict[UUID, V] = OrderedDict()

    def put(self, run_id: UUID, value: V) -> None:
        self._items[run_id] = value
        while len(self._items) > MAX_RUNS:
            self._drop_oldest()

    def get(self, run_id: UUID) -> V | None:
        with suppress(KeyError):
            self._items.move_to_end(run_id)
        return self._items.get(run_id)

    def take(self, run_id: UUID) -> V | None:
        return self._items.pop(run_id, None)

    def _drop_oldest(self) -> None:
        with suppress(KeyError):  # another thread was quicker
            self._items.popitem(last=False)


def _name(serialized: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> str | None:
    """The name of a run, found as LangChain's own tracers find it."""
    parts = (serialized or {}).get("id") or (None,)
    return kwargs.get("name") or (serialized or {}).get("name") or parts[-1]


def _label(entry: Entry, name: str, default: Any) -> Any:
    return entry.labels.get(name, default)


def _hashable(value: object) -> Hashable:
    """``value`` if it can be a key, else its repr."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
