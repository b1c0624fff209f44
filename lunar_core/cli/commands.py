"""All commands, in the order in which the help lists them: each file adds its own to the app."""

from __future__ import annotations

from lunar_core.cli import chat, compare, doctor, models, money, route, route_report, serving
from lunar_core.cli.app import app

__all__ = [
    "app",
    "chat",
    "compare",
    "doctor",
    "models",
    "money",
    "route",
    "route_report",
    "serving",
]
