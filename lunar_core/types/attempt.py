"""One HTTP request of a call, as answers and errors tell of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One HTTP request of a call: its ``model``, its outcome, and how long it took.

    ``status_code`` is None when no answer arrived, ``error`` is None when the attempt succeeded. ``was_sent`` is
    False where no byte of the request left this machine: a refused connection, an unknown host, TLS that failed.

    >>> answer = Lunar().completions.create(model="gpt-4o", prompt="Count to 5")
    >>> [(attempt.model, attempt.status_code, attempt.error) for attempt in answer.call.attempts]
    [('gpt-4o', 200, None)]
    """

    model: str
    status_code: int | None
    error: str | None
    seconds: float
    request_id: str | None = None
    was_sent: bool = True
    cost_usd: float | None = None
    """USD that the service stated beside a failure: billed, although there is no answer."""

    @property
    def may_be_billed(self) -> bool:
        """Whether it was sent, and failed without a refusal by the service: it may cost something that is unknown."""
        return self.was_sent and self.error is not None and (self.status_code or 0) < 300
