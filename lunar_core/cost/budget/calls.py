"""The calls of this process that a budget let through: the hold of each, and the amount that it took.

``put`` may run in the garbage collector, in the middle of any line here: it takes no lock.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque

from lunar_core.cost.budget.amounts import Count, Unit, count_outcome
from lunar_core.cost.budget.counters import Hold, Settlement
from lunar_core.cost.prices import Prices
from lunar_core.observers import Outcome

logger = logging.getLogger("lunar_core")

_REMEMBERED = 20
"""How many settled calls of a key are kept: the dearest of them predicts the next."""
_KEYS = 10_000
"""For how many keys they are kept."""


class CallsUnderWay:
    """A call is open from ``begin`` to ``put``. ``settle`` returns the amounts of calls that have ended.

    They are returned again until ``forget_settled``, because an interrupt (Ctrl-C) may come before they are counted.
    """

    def __init__(self, unit: Unit) -> None:
        self.has_unpriced = False
        """Whether a call has ended without a stated cost."""
        self._unit = unit
        self._ended: deque[Outcome] = deque()
        self._settled: list[Settlement] = []
        self._open: dict[str, Hold] = {}
        self._decisions: dict[str, int] = {}  # the amount of an open call's routing decision
        self._typical: OrderedDict[str | None, deque[int]] = OrderedDict()

    def begin(self, hold: Hold) -> None:
        self._open[hold.call_id] = hold

    def forget(self, call_id: str) -> Hold | None:
        """Undo ``begin``, and return the hold: the call was cancelled before it could be sent."""
        return self._open.pop(call_id, None)

    def put(self, outcome: Outcome) -> None:
        """Take the outcome of a call that has ended."""
        if outcome.usage is None or outcome.usage.total_cost_usd is None:
            self.has_unpriced = True
        self._ended.append(outcome)

    def settle(self, prices: Prices | None) -> list[Settlement]:
        """The amounts of the calls that have ended since ``forget_settled``. For one thread at a time."""
        while self._ended:
            outcome = self._ended[0]
            settlement = self._settlement(outcome, prices)
            if settlement is not None:
                self._settled.append(settlement)
                self._forget(settlement.hold.call_id)
            self._ended.popleft()
        return self._settled

    def forget_settled(self) -> None:
        """Forget what ``settle`` returned: it is counted."""
        self._settled = []

    def _forget(self, call_id: str) -> None:
        self._open.pop(call_id, None)
        self._decisions.pop(call_id, None)

    def dearest(self, key: str | None) -> int | None:
        """The largest amount of the key's last settled calls; None if there was none, or each was refused."""
        typical = self._typical.get(key)
        return max(typical) if typical else None

    def _settlement(self, outcome: Outcome, prices: Prices | None) -> Settlement | None:
        call_id = outcome.call.call_id
        whole_call = call_id.removesuffix(".route")
        if whole_call != call_id and whole_call in self._open:
            # The decision of decide-then-call is reported before the call, with an id made of the call's.
            decision = count_outcome(outcome, 0, self._unit, prices)
            self._decisions.setdefault(whole_call, decision.spent)
            return None
        hold = self._open.get(call_id)
        if hold is None:
            return None  # settled before, or begun by a parent of this process
        try:
            count = count_outcome(outcome, hold.amount, self._unit, prices)
        except Exception:  # an odd answer may raise anything; the call must be counted
            logger.exception("a budget could not tell what call %s came to", call_id)
            count = Count(hold.amount, hold.amount)
        if count.typical is not None:
            self._remember(hold.key, count.typical)
        return Settlement(hold, count.spent + self._decisions.get(call_id, 0), count.assumed)

    def _remember(self, key: str | None, amount: int) -> None:
        self._typical.setdefault(key, deque(maxlen=_REMEMBERED)).append(amount)
        self._typical.move_to_end(key)
        if len(self._typical) > _KEYS:
            self._typical.popitem(last=False)
