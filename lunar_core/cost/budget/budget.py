"""Budgets: an observer that refuses a call before it is sent, and counts what it came to once it is known."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeVar

from lunar_core.cost.budget.amounts import (
    amount_to_hold,
    checked_limit,
    checked_reserve,
    to_public_amount,
)
from lunar_core.cost.budget.calls import CallsUnderWay
from lunar_core.cost.budget.counters import (
    Counters,
    CounterSums,
    Hold,
    MemoryCounters,
    Settlement,
    no_undo,
)
from lunar_core.cost.budget.names import checked_key, checked_name
from lunar_core.cost.budget.weight import BudgetWeight, checked_share
from lunar_core.cost.budget.windows import Calendar, Windows
from lunar_core.cost.budget.words import BudgetState, Warnings, describe_refusal, title
from lunar_core.cost.ledger import Ledger, checked_ledger
from lunar_core.cost.prices import Prices, PricesAtHand, checked_prices
from lunar_core.errors import BudgetExceededError, ConfigurationError
from lunar_core.observers import CallStart, Outcome, current_tags

T = TypeVar("T")

OnExceed = Literal["raise", "warn"] | Callable[[BudgetExceededError], bool]

_RELEASED_AFTER = 3_600.0
"""Seconds. An older hold may belong to a process that died."""


class Budget:
    """Refuses calls that would exceed a limit, before anything is sent. An observer: give it to a client.

    Exactly one of ``usd``, ``tokens`` and ``calls`` is the limit. ``per``: a tag; each of its values has the whole
    limit for itself. ``window``: "hour", "day", "week" (from Monday) or "month" of the ``timezone``'s calendar, a
    timedelta for a rolling window, or None: for ever. ``ledger``: a stored one keeps the budget too, under ``name``,
    for every process that opens it; without one, the budget lives in this object.

    A call is let through if the spent amount, the amounts held for calls under way and its own amount fit the limit
    together. Its amount is then held in the same atomic step, so that no number of simultaneous calls can exceed the
    limit. ``reserve`` sets that amount: a number; "worst" (the prompt, and ``max_tokens`` or else 4,096 tokens of
    output, at the dearest model that may answer); or None: the dearest of the key's last 20 calls. ``prices``: for
    that, and for answers without a stated cost; default the ledger's, else those of genai-prices if installed.
    ``unpriced``: "refuse" or "allow" a call whose amount is unknown.

    ``on_exceed``: "raise" BudgetExceededError, "warn" in the log and send the call, or a function of the error that
    returns True to send it. ``warn_at``: a share of the limit; a warning is logged once in each window. ``clock``:
    returns seconds since the epoch. Raises ConfigurationError that names a wrong argument.

    >>> budget = Budget(usd="5", per="user", window="day")
    >>> budget.state("u1").remaining
    Decimal('5')
    """

    def __init__(
        self,
        usd: Decimal | str | float | None = None,
        *,
        tokens: int | None = None,
        calls: int | None = None,
        name: str = "budget",
        per: str | None = None,
        window: Calendar | timedelta | None = None,
        timezone: tzinfo | str = timezone.utc,
        ledger: Ledger | None = None,
        reserve: Decimal | str | float | None = None,
        prices: Prices | None = None,
        unpriced: Literal["refuse", "allow"] = "refuse",
        on_exceed: OnExceed = "raise",
        warn_at: float | None = 0.8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._arguments = {key: value for key, value in locals().items() if key != "self"}
        self.unit, self._limit = checked_limit(usd, tokens, calls)
        self.name = checked_name(name, "name")
        self.per = None if per is None else checked_name(per, "per")
        self._windows = Windows.parse(window, timezone)
        self._reserved = checked_reserve(reserve, self.unit)
        if unpriced not in ("refuse", "allow"):
            raise ConfigurationError(f"unpriced: expected 'refuse' or 'allow', not {unpriced!r}")
        self._is_lenient = unpriced == "allow"
        if on_exceed not in ("raise", "warn") and not callable(on_exceed):
            raise ConfigurationError("on_exceed: expected 'raise', 'warn' or a function")
        self._on_exceed = on_exceed
        self._warn_at = None if warn_at is None else checked_share(warn_at, "warn_at")
        if not callable(clock):
            raise ConfigurationError("clock: expected a function that returns epoch seconds")
        self._clock = clock
        self.ledger = None if ledger is None else checked_ledger(ledger)
        own_prices = checked_prices(prices) or (None if ledger is None else ledger.prices)
        self._prices = PricesAtHand(own_prices, are_needed=self.unit == "usd")
        self._begin()
        self._counters = self._make_counters(ledger)
        _BUDGETS.add(self)

    def _make_counters(self, ledger: Ledger | None) -> Counters:
        """The counters: in the store of a stored ledger, else in this object."""
        book = None if ledger is None else ledger.stored_book
        if book is None:
            return MemoryCounters(self._windows)
        from lunar_core.cost.budget.store import StoredCounters

        counters = StoredCounters(
            book,
            self._windows,
            self._settle,
            name=self.name,
            unit=self.unit,
            per=self.per,
            limit=self._limit,
        )
        counters.meet()
        return counters

    def _begin(self) -> None:
        """Make what belongs to one process: a forked child and an unpickled copy start with nothing."""
        self._calls = CallsUnderWay(self.unit)
        self._settling = threading.Lock()
        self._warnings = Warnings()

    @property
    def limit(self) -> Decimal | int:
        """The limit in USD, tokens or calls, as ``unit`` says."""
        return to_public_amount(self._limit, self.unit)

    # The observer

    def before(self, call: CallStart, /) -> None:
        """Hold the call's amount, or refuse the call.

        Raises BudgetExceededError, and LedgerError if the budget's store cannot be read.
        """
        if self._lacks_prices:
            self._prices.find()
        counters, undo = self._counters, partial(self._undo, call.call_id)
        refused = counters.run(partial(self._reserve, call), undo)
        if refused is not None:
            is_sent = self._passes(refused)
            counters.run(partial(self._conclude, refused.hold, is_sent=is_sent), undo)
            if not is_sent:
                raise refused.error

    async def abefore(self, call: CallStart, /) -> None:
        """The same for the async client, whose event loop waits neither for a store nor for prices to load."""
        if self._lacks_prices:
            await asyncio.to_thread(self._prices.find)
        counters, undo = self._counters, partial(self._undo, call.call_id)
        refused = await counters.arun(partial(self._reserve, call), undo)
        if refused is not None:
            is_sent = self._passes(refused)
            await counters.arun(partial(self._conclude, refused.hold, is_sent=is_sent), undo)
            if not is_sent:
                raise refused.error

    def after(self, outcome: Outcome, /) -> None:
        """Keep how a call ended. Its amount is counted later."""
        self._calls.put(outcome)
        self._counters.wake()

    def _reserve(self, call: CallStart) -> _Refused | None:
        """Hold the call's amount. Returns None, or why the call does not fit."""
        self._settle()
        now = self._now()
        key = self._key(call.tags)
        dearest = self._calls.dearest(key)
        amount = amount_to_hold(call, self.unit, self._reserved, dearest, self._prices.value)
        is_call = call.endpoint != "router.decide"
        hold = Hold(call.call_id, key, self._windows.start(now), amount or 0, now, is_call)
        if amount is None and not self._is_lenient:
            self._settle_now()
            return _Refused(hold, self._refusal(hold, call, None, self._counters.sums(key, now)))
        is_admitted, sums = self._counters.reserve(hold, self._limit)
        if not is_admitted:  # what has ended meanwhile may have made room
            self._settle_now()
            is_admitted, sums = self._counters.reserve(hold, self._limit)
        if not is_admitted:
            return _Refused(hold, self._refusal(hold, call, hold.amount, sums))
        self._calls.begin(hold)
        self._warn_of_share(hold, sums)
        return None

    def _passes(self, refused: _Refused) -> bool:
        """Whether a call that does not fit is sent anyway."""
        if self._on_exceed == "warn":
            self._warn(refused.hold, "exceeded", str(refused.error))
            return True
        return callable(self._on_exceed) and self._on_exceed(refused.error) is True

    def _conclude(self, hold: Hold, *, is_sent: bool) -> None:
        """Hold the amount although it does not fit, or count the call as refused."""
        if is_sent:
            self._counters.reserve(hold, None)
            self._calls.begin(hold)
        else:
            self._counters.refuse(hold)

    def _undo(self, call_id: str) -> None:
        """Release the hold of a call that was cancelled in ``before``: no outcome of it will come."""
        hold = self._calls.forget(call_id)
        if hold is not None:
            self._counters.settle([Settlement(hold)])
            self._counters.wake()

    def _settle(self) -> None:
        """Count the calls that have ended."""
        with self._settling:
            settlements = self._calls.settle(self._prices.value)
            if settlements:
                self._counters.settle(settlements)
                self._calls.forget_settled()

    def _settle_now(self) -> None:
        """The same, and write them at once, so that the next read sees them."""
        self._settle()
        self._counters.write_settled()

    # Reading

    def state(self, key: str | None = None) -> BudgetState:
        """The budget's state for one value of the tag ``per``; None: for the calls without it.

        Raises ConfigurationError for a key of a budget without ``per``, which counts all calls together.
        """
        key, now = checked_key(key, self.name, self.per), self._now()
        sums = self._look(lambda: self._counters.sums(key, now))
        return self._state(key, sums, now)

    def states(self) -> dict[str | None, BudgetState]:
        """The same for every key that has used the budget in this window."""
        now = self._now()
        sums = self._look(lambda: self._counters.all_sums(now))
        return {key: self._state(key, key_sums, now) for key, key_sums in sums.items()}

    def release(self, key: str | None = None) -> int:
        """Release holds of the key's calls that are older than an hour, and return how many.

        For holds of a process that died. A living process still counts its call when it ends.
        """
        key, before = checked_key(key, self.name, self.per), self._now() - _RELEASED_AFTER
        return self._look(lambda: self._counters.release(key, before))

    def cost_weight(
        self, base: float = 0.0, *, start: float = 0.5, top: float = 100.0
    ) -> BudgetWeight:
        """A function for ``cost_weight``: the more of this budget is used, the more the router minds the price.

        It returns ``base`` until the share ``start`` is used, for the key of the call's tags; then it rises linearly to
        ``top`` when all is used. Raises ConfigurationError that names a wrong argument.

        >>> budget = Budget(usd=5)
        >>> budget.cost_weight(base=1)()
        1.0
        """
        return BudgetWeight(self, base, start, top)

    def used(self) -> float:
        """The share of the limit that is spent or held, for the key of the current tags; 1.0 if the limit is 0.

        For a stored budget: as this process last read it. Only the first call reads the store.
        """
        self._settle()
        return self._share(self._counters.last_seen(self._key(current_tags()), self._now()))

    def _look(self, look: Callable[[], T]) -> T:
        """What ``look`` returns, after all calls that have ended are counted."""
        if self._lacks_prices:
            self._prices.find()

        def settle_and_look() -> T:
            self._settle_now()
            return look()

        return self._counters.run(settle_and_look, no_undo)

    def _share(self, sums: CounterSums) -> float:
        return (sums.spent + sums.held) / self._limit if self._limit else 1.0

    def _key(self, tags: Mapping[str, str]) -> str | None:
        return None if self.per is None else tags.get(self.per)

    def _state(self, key: str | None, sums: CounterSums, now: float) -> BudgetState:
        self._warn_of_share(Hold("", key, self._windows.start(now), 0, now), sums)
        starts_at, resets_at = self._windows.bounds(now, sums.oldest)
        return BudgetState(
            name=self.name,
            key=key,
            unit=self.unit,
            limit=self.limit,
            spent=to_public_amount(sums.spent, self.unit),
            assumed=to_public_amount(sums.assumed, self.unit),
            held=to_public_amount(sums.held, self.unit),
            remaining=to_public_amount(max(0, self._limit - sums.spent - sums.held), self.unit),
            calls=sums.calls,
            refused=sums.refused,
            starts_at=starts_at,
            resets_at=resets_at,
        )

    def _refusal(
        self, hold: Hold, call: CallStart, amount: int | None, sums: CounterSums
    ) -> BudgetExceededError:
        state = self._state(hold.key, sums, hold.at)
        amount_asked = None if amount is None else to_public_amount(amount, self.unit)
        return BudgetExceededError(
            describe_refusal(state, self.per, amount_asked, call.model),
            budget=self.name,
            key=state.key,
            unit=self.unit,
            limit=state.limit,
            spent=state.spent,
            held=state.held,
            asked=amount_asked,
            resets_at=state.resets_at,
        )

    def _warn_of_share(self, hold: Hold, sums: CounterSums) -> None:
        if self._warn_at is not None and self._share(sums) >= self._warn_at:
            used = to_public_amount(sums.spent + sums.held, self.unit)
            which = title(self.name, self.per, hold.key)
            self._warn(hold, "share", f"{which}: {used} of {self.limit} {self.unit} spent or held")

    def _warn(self, hold: Hold, kind: str, text: str) -> None:
        self._warnings.warn_once((hold.key, kind), self._windows.ordinal(hold.at), text)

    @property
    def _lacks_prices(self) -> bool:
        """Whether prices are needed and not loaded yet, which takes a second."""
        is_needed = self._calls.has_unpriced or not isinstance(self._reserved, int)
        return is_needed and not self._prices.are_found

    def _now(self) -> float:
        now = self._clock()
        try:
            is_time = math.isfinite(now)
        except TypeError:  # no number
            is_time = False
        if not is_time:
            raise ConfigurationError(f"clock: expected seconds since the epoch, not {now!r}")
        return now

    # Copies

    def __repr__(self) -> str:
        what = (
            f"{self.unit}={str(self.limit)!r}"
            if self.unit == "usd"
            else f"{self.unit}={self.limit}"
        )
        per = "" if self.per is None else f", per={self.per!r}"
        return f"Budget({what}, name={self.name!r}{per})"

    def __copy__(self) -> Budget:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Budget:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._counters, MemoryCounters):
            raise TypeError(
                f"the budget {self.name!r} lives in this object and cannot be pickled; "
                "one with ledger=Ledger.open(...) can"
            )
        return partial(Budget, **self._arguments), ()

    def _begin_child(self) -> None:
        """Start anew in a forked child.

        The calls under way are its parent's, and a thread of the parent may hold a lock.
        """
        self._begin()
        self._counters.begin_child()


@dataclass(frozen=True)
class _Refused:
    """A call that does not fit, and the error for it."""

    hold: Hold
    error: BudgetExceededError


_BUDGETS: weakref.WeakSet[Budget] = weakref.WeakSet()


def _begin_children() -> None:
    for budget in list(_BUDGETS):
        budget._begin_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_children)
