"""Bills of calls. A bill is opened when a call begins, and closed once, with its tokens and cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lunar_core.sandbox.usage import Tokens, costs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lunar_core.sandbox.admission import Target
    from lunar_core.sandbox.answers import Piece
    from lunar_core.sandbox.dialects import Documented, Head
    from lunar_core.sandbox.log import Log


class Bill:
    """One call's tokens and cost so far.

    ``log``: takes the closed bill. ``request``: the log's record of the request. ``head``: the answer's. ``target``:
    the model, whose prices count. ``tokens``: those known at the start: all of an answer, or a stream's prompt.
    ``started``: when the request came (``time.perf_counter()``). ``tags``: words about the call for the log.
    """

    def __init__(
        self,
        log: Log,
        request: Mapping[str, Any],
        head: Head,
        target: Target,
        *,
        tokens: Tokens,
        started: float,
        tags: Sequence[str] = (),
    ) -> None:
        self._log = log
        self._request = request
        self._head = head
        self._target = target
        self._tokens = tokens
        self._started = started
        self._first: float | None = None
        self._ended: float | None = None
        self._tags = tags

    def add(self, piece: Piece) -> None:
        """Count a piece of a stream, by the upstream's own count if it states one."""
        if self._first is None and piece.delta:
            self._first = time.perf_counter()
        before = self._tokens
        self._tokens = piece.counted or Tokens(
            before.prompt,
            before.completion + piece.tokens,
            before.cached,
            before.reasoning + piece.reasoning,
        )

    @property
    def tokens(self) -> Tokens:
        """The tokens so far."""
        return self._tokens

    @property
    def cost(self) -> float | None:
        """The cost of the tokens so far in USD; None if the model has no price."""
        return costs(self._tokens, self._target.model).get("total_cost_usd")

    def usage(self, dialect: Documented) -> dict[str, Any]:
        """The ``usage`` of the tokens so far, in the form of ``dialect``."""
        ended = self._ended or time.perf_counter()
        latency = round((ended - self._started) * 1000, 3)
        first = round((self._first - self._started) * 1000, 3) if self._first else latency
        return dialect.usage(self._tokens, costs(self._tokens, self._target.model), latency, first)

    def close(self, *, usage_sent: bool = False, aborted: bool = False) -> None:
        """Write the bill to the log; once closed, closing again does nothing."""
        if self._ended is not None:
            return
        self._ended = time.perf_counter()
        tokens, request = self._tokens, self._request
        self._log.bill(
            {
                "id": self._head.id,
                "model": self._target.requested_name,
                "provider": self._target.provider,
                "session": request["session"],
                "request_id": request["request_id"],
                "path": request["path"],
                "prompt_tokens": tokens.prompt,
                "completion_tokens": tokens.completion,
                "cached_tokens": tokens.cached,
                "reasoning_tokens": tokens.reasoning,
                **costs(tokens, self._target.model),
                "usage_sent": usage_sent,
                "tags": [*self._tags, *(["aborted"] if aborted else [])],
            }
        )
