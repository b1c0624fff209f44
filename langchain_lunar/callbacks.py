"""What runs cost, told by LangChain's callbacks: thin views on a ``lunar_core.Ledger``.

A handler only records. What must be refused is refused in the client (``lunar_core.Observer``), because
LangChain swallows what handlers raise.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_core.tracers.context import register_configure_hook

from lunar_core import Entry, Ledger, Totals, current_tags
from lunar_core.observers import Status
from lunar_core.wire.usage import exact_usd

MAX_RUNS = 10_000
"""Runs that are remembered while they are under way. Of more, those not seen for longest are forgotten."""

_ABORTED = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)

V = TypeVar("V")


class LunarCostCallbackHandler(BaseCallbackHandler):
    """Adds up what every model call under it cost, in sync and async code alike.

    Give it to a model, to a call (``config={"callbacks": [handler]}``) or to both: a call counts once.
    Streams that failed or were left early count too, as far as the service had told their usage. An answer
    from LangChain's cache costs nothing and adds to ``saved``. Models of other vendors count as ``unpriced``,
    with their tokens. ``ledger``: one to share with others, else a new one.

    Costs are exact USD, as the service billed them. Safe to share between threads and event loops.

    >>> cost = LunarCostCallbackHandler()
    >>> answer = ChatLunar(model="router").invoke("Say hello", config={"callbacks": [cost]})
    >>> cost.total_cost, cost.total_tokens, cost.unpriced
    (Decimal('0.000045'), 20, 0)
    """

    # Bookkeeping takes microseconds: in async code it is done on the event loop, in order.
    run_inline = True

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = Ledger() if ledger is None else ledger
        self._outer: LunarCostCallbackHandler | None = None
        self._runs: _Recent[_Run] = _Recent()
        self._roots: _Recent[_Root] = _Recent()

    @property
    def total_cost(self) -> Decimal:
        """USD over all calls whose cost is known; ``unpriced`` tells how many are not."""
        return self.ledger.total_cost

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers together. An answer from the cache used none."""
        return self.ledger.total_tokens

    @property
    def unpriced(self) -> int:
        """How many answers came without their cost."""
        return self.ledger.unpriced

    @property
    def saved(self) -> Decimal:
        """USD that the answers from LangChain's cache would have cost again."""
        return self.ledger.total.saved

    @property
    def by_model(self) -> dict[str, Totals]:
        """By the model that answered."""
        return self.ledger.by_model

    @property
    def by_provider(self) -> dict[str | None, Totals]:
        """By who served the answer."""
        return self.ledger.by_provider

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """By the value that ``lunar_core.tags(name=value)`` gave; None for calls outside of such a block."""
        return self.ledger.by_tag(name)

    @property
    def by_run_tag(self) -> dict[str, Totals]:
        """By LangChain's tags. A call with two of them counts in both groups."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.ledger:
            for tag in _label(entry, "tags", ()):
                groups.setdefault(tag, []).append(entry)
        return {tag: Totals.of(entries) for tag, entries in groups.items()}

    def by_metadata(self, key: str) -> dict[Hashable, Totals]:
        """By one key of LangChain's metadata, as in ``config={"metadata": {"user": "u1"}}``; None without it."""
        return self.ledger.by(lambda entry: _hashable(_label(entry, "metadata", {}).get(key)))

    @property
    def by_node(self) -> dict[Hashable, Totals]:
        """By the node of a LangGraph graph, such as an agent's "model"; None outside of graphs."""
        return self.by_metadata("langgraph_node")

    @property
    def by_run_name(self) -> dict[str | None, Totals]:
        """By the name of the model's run: the config's ``run_name``, else the model's class."""
        return self.ledger.by(lambda entry: _label(entry, "run_name", None))

    @property
    def by_root_run(self) -> dict[str | None, Totals]:
        """By the id of the outermost run that this handler saw around the call: say, one answer of an agent."""
        return self.ledger.by(lambda entry: _label(entry, "root_run_id", None))

    def __repr__(self) -> str:
        total = self.ledger.total
        return (
            f"{type(self).__name__}(calls={total.calls}, total_cost={total.cost}, "
            f"unpriced={total.unpriced})"
        )

    # Who the calls are for: the end of a call doesn't say.

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember what this run is part of."""
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
        """Remember what this run is part of: a tool may ask models."""
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
        """Remember what this run is part of: a retriever may ask models."""
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
        """Remember who asks, and what for."""
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
        """Remember who asks, and what for."""
        self._begin("completions", run_id, parent_run_id, _name(serialized, kwargs), kwargs)

    # What came of them.

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the call."""
        self._end(run_id, "ok", response)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the call, with what a stream had told of its usage before it broke off."""
        self._end(run_id, "aborted" if isinstance(error, _ABORTED) else "failed", response)

    def _enter(self, run_id: UUID, parent_run_id: UUID | None, name: str | None) -> _Root:
        """The outermost run around this one, as far as it was seen."""
        if parent_run_id is None:
            root = _Root(run_id, name)
        else:
            root = self._roots.get(parent_run_id) or _Root(parent_run_id)
        self._roots.put(run_id, root)
        return root

    def _begin(
        self,
        endpoint: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        told: Mapping[str, Any],
    ) -> None:
        root = self._enter(run_id, parent_run_id, name)
        metadata = dict(told.get("metadata") or {})
        labels: dict[str, object] = {
            "run_id": str(run_id),
            "run_name": name,
            "root_run_id": str(root.run_id),
            "root_run_name": root.name,
            "tags": tuple(told.get("tags") or ()),
            "metadata": metadata,
        }
        self._runs.put(run_id, _Run(endpoint, labels, current_tags()))

    def _end(self, run_id: UUID, status: Status, response: LLMResult | None) -> None:
        run = self._runs.take(run_id) or _Run("", {"run_id": str(run_id)}, {})
        info, usage = _told(response)
        self._settle(_entry(run, status, info, usage), from_cache=_is_cached(usage, info))

    def _settle(self, entry: Entry, *, from_cache: bool) -> None:
        """Record a call, unless it is there already. The same answer in another run came from a cache."""
        if from_cache or not self.ledger.add(entry):
            first = self.ledger.get(entry.call_id)
            if from_cache or _is_another(first, entry):
                self.ledger.add(_hit(entry))
        if self._outer is not None:
            self._outer._settle(entry, from_cache=from_cache)


_COST: ContextVar[LunarCostCallbackHandler | None] = ContextVar("lunar_cost", default=None)
# Once per process: each hook would be asked by every run from then on.
register_configure_hook(_COST, inheritable=True)


@contextmanager
def get_lunar_cost(ledger: Ledger | None = None) -> Iterator[LunarCostCallbackHandler]:
    """Add up what the model calls in this block cost, wherever in it they are made.

    Blocks nest: what is counted in an inner one is counted in the outer ones too. Batches, asyncio tasks and
    ``langchain_core``'s own threads carry the block along. A thread of yours doesn't: start it with
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


@dataclass(frozen=True)
class _Run:
    endpoint: str
    labels: Mapping[str, object]
    tags: Mapping[str, str]

    def asked(self, key: str) -> str | None:
        """What the model said of itself when it was asked: ``ls_model_name``, ``ls_provider``."""
        metadata = self.labels.get("metadata")
        return _text(metadata.get(key)) if isinstance(metadata, Mapping) else None


class _Recent(Generic[V]):
    """A mapping of runs that keeps the MAX_RUNS last used: runs that never end must not pile up."""

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


def _told(response: LLMResult | None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the answer says of itself, and its tokens: of the first generation that has any of it."""
    for generation in (g for listed in (response.generations if response else ()) for g in listed):
        info, usage = _of_generation(generation)
        if info or usage:
            return info, usage or _of_output(response)
    return {}, _of_output(response)


def _of_generation(generation: Generation) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        message = generation.message
        return message.response_metadata, dict(message.usage_metadata or {})
    info = generation.generation_info or {}
    usage = info.get("token_usage")
    return info, usage if isinstance(usage, Mapping) else {}


def _of_output(response: LLMResult | None) -> Mapping[str, Any]:
    """Where models of other vendors tell their tokens, if nowhere else."""
    usage = ((response and response.llm_output) or {}).get("token_usage")
    return usage if isinstance(usage, Mapping) else {}


def _entry(run: _Run, status: Status, info: Mapping[str, Any], usage: Mapping[str, Any]) -> Entry:
    cost = info.get("total_cost_usd")
    prompt = _count(usage, "input_tokens", "prompt_tokens")
    completion = _count(usage, "output_tokens", "completion_tokens")
    asked = run.asked("ls_model_name") or ""
    call_id, provider = _text(info.get("call_id")), _text(info.get("provider"))
    if call_id is None:  # another vendor's model, or nothing came back
        provider = provider or _text(info.get("model_provider")) or run.asked("ls_provider")
    return Entry(
        call_id=call_id or str(run.labels["run_id"]),
        model=_text(info.get("model_name")) or asked,
        endpoint=run.endpoint,
        requested_model=_text(info.get("requested_model")) or asked,
        provider=provider,
        status=status,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage, "total_tokens") or prompt + completion,
        cost=exact_usd(cost) if isinstance(cost, (int, float)) else None,
        tags=run.tags,
        latency_ms=_number(info.get("latency_ms")),
        ttft_ms=_number(info.get("ttft_ms")),
        labels=run.labels,
    )


def _is_cached(usage: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Core marks a hit of its cache by a cost of 0 beside the tokens, and leaves all else as it was."""
    return usage.get("total_cost") == 0 and info.get("total_cost_usd") != 0


def _is_another(first: Entry | None, entry: Entry) -> bool:
    """Whether one answer was reported by two runs: an observer of the client, say, reports without a run."""
    known = first is not None and first.labels.get("run_id")
    return bool(known) and known != entry.labels["run_id"]


def _hit(entry: Entry) -> Entry:
    """The answer of an earlier call, handed out again for nothing."""
    return replace(
        entry,
        call_id=f"{entry.call_id}@{entry.labels['run_id']}",
        endpoint="cache",
        prompt_tokens=0,
        completion_tokens=0,
        total_tokens=0,
        cost=Decimal(0),
        saved=entry.cost,
        latency_ms=None,
        ttft_ms=None,
    )


def _name(serialized: Mapping[str, Any] | None, told: Mapping[str, Any]) -> str | None:
    """The name of a run, as LangChain's own tracers find it."""
    parts = (serialized or {}).get("id") or (None,)
    return told.get("name") or (serialized or {}).get("name") or _text(parts[-1])


def _label(entry: Entry, name: str, default: Any) -> Any:
    return entry.labels.get(name, default)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) else None


def _count(usage: Mapping[str, Any], *names: str) -> int:
    return next((int(usage[name]) for name in names if usage.get(name)), 0)


def _hashable(value: object) -> Hashable:
    """The value itself where it can be a key, else how it is written."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
