"""An answer that is an error, raised from wherever it is found."""

from __future__ import annotations

import math
from typing import Any


class ServiceError(Exception):
    """Ends a request with ``{"detail": …}`` and a status."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def seconds(text: str) -> float:
    """Read a duration.

    Raises:
        ValueError: it is no number of seconds, or one without end.
    """
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value
