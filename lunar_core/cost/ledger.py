"""What was spent, on what, for whom: one Entry per call, and exact sums over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TypeVar

from lunar_core.observers import CallStart, Outcome, Status
from lunar_core.types.attempt import Attempt

K = TypeVar("K")

# Wide enough for the sum of any floats: no digit that the service wrote is ever rounded away.
_EXACT = Context(prec=1_200, Emax=MAX_EMAX, Emin=MIN_EMIN)


@dataclass(frozen=True)
class Entry:
    """One call, as the service billed it. ``cost`` is USD, None when the service stated none.

    ``saved`` is what a cache spared: the cost of the answer when it was first paid for. An entry
    with ``endpoint == "router.decide"`` is a decision alone, which is not billed as an answer: without
    a cost it does not count as unpriced.
    """

    call_id: str
    model: str
    endpoint: str = "chat.completions"
    requested_model: str = ""
    provider: str | None = None
    status: Status = "ok"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: Decimal | None = None
    saved: Decimal | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, object] = field(default_factory=dict)
    """What a framework said of the call: names and ids of runs, its own tags and metadata."""
    attempts: tuple[Attempt, ...] = ()
    latency_ms: float | None = None
    ttft_ms: float | None = None
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""

    @property
    def unpriced(self) -> bool:
        """Whether an answer, or a part of one, came or may have come without a word on its cost."""
        if self.cost is not None or self.saved is not None or self.endpoint == "router.decide":
            return False
        return self.status != "failed" or any(attempt.may_be_billed for attempt in self.attempts)

    @classmethod
    def of(cls, outcome: Outcome) -> Entry:
        usage, call = outcome.usage, outcome.call
        prompt = (usage and usage.prompt_tokens) or 0
        completion = (usage and usage.completion_tokens) or 0
        return cls(
            call_id=call.call_id,
            model=outcome.model,
            endpoint=outcome.endpoint,
            requested_model=call.requested_model,
            provider=outcome.provider,
            status=outcome.status,
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=(usage and usage.total_tokens) or prompt + completion,
            cost=usage.cost if usage is not None else None,
            tags=outcome.tags,
            attempts=call.attempts,
            latency_ms=call.latency_ms,
            ttft_ms=call.ttft_ms,
        )


@dataclass(frozen=True)
class Totals:
    """Sums over some entries. ``cost`` is a lower bound when ``unpriced`` is not 0."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)
    unpriced: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Totals:
        """Exact, whatever the order. A decision alone is no call of its own here."""
        listed = list(entries)
        return cls(
            calls=sum(entry.endpoint != "router.decide" for entry in listed),
            prompt_tokens=sum(entry.prompt_tokens for entry in listed),
            completion_tokens=sum(entry.completion_tokens for entry in listed),
            total_tokens=sum(entry.total_tokens for entry in listed),
            cost=_exact_sum(entry.cost for entry in listed),
            saved=_exact_sum(entry.saved for entry in listed),
            unpriced=sum(entry.unpriced for entry in listed),
        )


class Ledger:
    """An in-memory record of calls. It is an Observer: give it to a client, or let a handler keep one.

    Safe to share between threads and event loops. Entries with a ``call_id`` that is there already
    are ignored, so that a call is counted once however many handlers report it.

    >>> ledger = Ledger()
    >>> ledger.add(Entry("call_1", "gpt-4o-mini", cost=Decimal("0.000045"), tags={"user": "u1"}))
    True
    >>> ledger.total_cost, ledger.by_tag("user")["u1"].calls, ledger.unpriced
    (Decimal('0.000045'), 1, 0)
    """

    def __init__(self) -> None:
        # A dict alone, no lock: a stream that is dropped reports from the garbage collector, which
        # may run while this very thread is in here.
        self._entries: dict[str, Entry] = {}

    def before(self, call: CallStart, /) -> None:
        """A ledger only records."""

    def after(self, outcome: Outcome, /) -> None:
        """Record how a call ended. One that was refused before it was sent is none."""
        if outcome.status != "refused":
            self.add(Entry.of(outcome))

    def add(self, entry: Entry) -> bool:
        """Record ``entry``; False if its call is there already."""
        if entry.call_id in self._entries:
            return False
        return self._entries.setdefault(entry.call_id, entry) is entry

    def get(self, call_id: str) -> Entry | None:
        """The entry of one call, if there is one."""
        return self._entries.get(call_id)

    def label(self, call_id: str, labels: Mapping[str, object]) -> None:
        """Add what a framework says of a call that is there: the client, whose observer this is, doesn't know it."""
        entry = self._entries.get(call_id)
        if entry is not None:
            self._entries[call_id] = replace(entry, labels={**entry.labels, **labels})

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def total(self) -> Totals:
        return Totals.of(self)

    @property
    def total_cost(self) -> Decimal:
        """USD over all entries whose cost is known; ``unpriced`` tells how many are not."""
        return _exact_sum(entry.cost for entry in self)

    @property
    def total_tokens(self) -> int:
        return sum(entry.total_tokens for entry in self)

    @property
    def unpriced(self) -> int:
        """How many answers came without their cost."""
        return sum(entry.unpriced for entry in self)

    @property
    def by_model(self) -> dict[str, Totals]:
        """By the model that answered."""
        return self.by(lambda entry: entry.model)

    @property
    def by_provider(self) -> dict[str | None, Totals]:
        return self.by(lambda entry: entry.provider)

    def by_tag(self, name: str) -> dict[str | None, Totals]:
        """By the value of one tag; None for the calls without it."""
        return self.by(lambda entry: entry.tags.get(name))

    def by(self, key: Callable[[Entry], K]) -> dict[K, Totals]:
        """By anything that can be told from an entry."""
        groups: dict[K, list[Entry]] = {}
        for entry in self:
            groups.setdefault(key(entry), []).append(entry)
        return {name: Totals.of(entries) for name, entries in groups.items()}


def _exact_sum(amounts: Iterable[Decimal | None]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        if amount is not None:
            total = _EXACT.add(total, amount)
    return total
