"""How long calls took: percentiles and a distribution, from counts of whole milliseconds. Pure."""

from __future__ import annotations

from collections import Counter

_BOUNDS = [step * 10**power for power in range(7) for step in (1, 2, 5)]
"""Milliseconds."""
_MOST_STEPS = 20


def percentile(counts: Counter[int], share: int) -> int:
    """The time in ms that ``share`` per cent of the calls did not exceed. It is the time of one of the calls.

    >>> percentile(Counter({10: 98, 500: 2}), 99)
    500
    """
    rank = -(-counts.total() * share // 100)
    passed = 0
    for time in sorted(counts):
        passed += counts[time]
        if passed >= rank:
            return time
    raise ValueError("no counts")


def distribution(counts: Counter[int]) -> list[tuple[str, int]]:
    """How many calls took up to which time, in steps. Empty steps at both ends are left out.

    >>> distribution(Counter({3: 1, 4: 1, 15: 7}))
    [('up to 5 ms', 2), ('up to 10 ms', 0), ('up to 20 ms', 7)]
    """
    steps = [0] * (len(_BOUNDS) + 1)
    for time, count in counts.items():
        steps[next((i for i, bound in enumerate(_BOUNDS) if time <= bound), len(_BOUNDS))] += count
    names = [*(f"up to {seconds(bound)}" for bound in _BOUNDS), f"over {seconds(_BOUNDS[-1])}"]
    filled = [index for index, count in enumerate(steps) if count]
    first, last = filled[0], filled[-1]
    first_shown = max(first, last - _MOST_STEPS + 1)
    steps[first_shown] += sum(steps[first:first_shown])  # its name says "up to"
    return list(zip(names, steps, strict=True))[first_shown : last + 1]


def seconds(milliseconds: int) -> str:
    """A time for people.

    >>> seconds(850), seconds(1500), seconds(20_000)
    ('850 ms', '1.5 s', '20 s')
    """
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    return f"{milliseconds / 1_000:,.3f}".rstrip("0").rstrip(".") + " s"
