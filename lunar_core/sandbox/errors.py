"""The error that ends a request with an HTTP status."""

from __future__ import annotations

import math
from typing import Any


class ServiceError(Exception):
    """Ends a request with a status and ``{"detail": …}``, or with a body of another form."""

    def __init__(self, status: int, detail: Any, *, body: Any = None) -> None:
        super().__init__(status, detail)
        self.status = status
        self.body: Any = {"detail": detail} if body is None else body


def seconds(text: str) -> float:
    """Read a number of seconds. Raises ValueError if ``text`` is none, or one without end."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value
