"""An answer that is an error, raised from wherever it is found."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """Ends a request with ``{"detail": …}`` and a status."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def all_failed(model: str, reason: str) -> str:
    """The service's own sentence for a model that gave no answer (from the reference)."""
    return f"All providers failed for model '{model}': {reason}"
