"""All commands, in the order in which the help lists them: each file adds its own to the app."""

from __future__ import annotations

from lunar_core.cli import asking, chat, compare, doctor, money, route_report, serving
from lunar_core.cli.app import app

__all__ = ["app", "asking", "chat", "compare", "doctor", "money", "route_report", "serving"]
