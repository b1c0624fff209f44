"""The failure of a provider, as a gateway's error states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UpstreamKind = Literal[
    "context_length",
    "content_policy",
    "bad_request",
    "bad_image",
    "authentication",
    "permission",
    "not_found",
    "rate_limit",
    "timeout",
    "unavailable",
]


@dataclass(frozen=True)
class UpstreamFailure:
    """How the provider failed, read from the message of the gateway's error.

    A gateway reports each failure of a provider as its own 502. ``kind``: the failure that the message describes.
    ``status``: the HTTP status that the provider itself gives for it.

    >>> failure = UpstreamFailure("context_length", 400)
    >>> failure.may_pass, failure.may_fall_back
    (False, True)
    """

    kind: UpstreamKind
    status: int

    @property
    def may_pass(self) -> bool:
        """Whether the same model may answer the same request in a moment."""
        return self.kind in ("timeout", "unavailable")

    @property
    def may_fall_back(self) -> bool:
        """Whether another model may answer: False if the request itself is at fault."""
        return self.kind not in ("bad_request", "bad_image")
