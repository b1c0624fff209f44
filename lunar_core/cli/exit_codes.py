"""The command's exit codes, beside 0."""

from __future__ import annotations

FAILED = 1
"""The service failed, or something on this machine did."""
MISUSED = 2
"""An argument or a setting was wrong."""
OUT_OF_BUDGET = 3
"""A budget stopped it."""
INTERRUPTED = 130
"""Ctrl-C, as shells number it."""
