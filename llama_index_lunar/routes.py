"""Remembers the router's decision behind each answer, so that follow-up calls can stay with its model."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lunar_core.routing import Sticky, find_sticky_answer

JSONObject = dict[str, Any]

MAX_ROUTES = 10_000
"""How many answers' routes are kept. Beyond that, the oldest are forgotten."""


class Routes:
    """The decisions behind the latest answers. Copies and pickles begin empty.

    An answer is recognised by the ids of its tool calls, or by its text: LlamaIndex's memories keep nothing else.
    """

    def __init__(self) -> None:
        self._routes: OrderedDict[str, JSONObject] = OrderedDict()

    def remember(self, answer: Mapping[str, Any], route: JSONObject, sticky: Sticky) -> None:
        """Keep the ``route`` of ``answer``, a message in the form of the API."""
        for mark in _marks(answer, sticky):
            self._routes[mark] = route
        while len(self._routes) > MAX_ROUTES:
            with suppress(KeyError):  # another thread was quicker
                self._routes.popitem(last=False)

    def find(self, messages: Sequence[Mapping[str, Any]], sticky: Sticky) -> JSONObject | None:
        """The route that a conversation (in the form of the API) keeps to; None to let the router choose."""
        answer = find_sticky_answer(messages, sticky)
        marks = _marks(answer, sticky) if answer is not None else ()
        return next((route for mark in marks if (route := self._routes.get(mark))), None)

    def __reduce__(self) -> tuple[type[Routes], tuple[()]]:
        return Routes, ()


def _marks(message: Mapping[str, Any], sticky: Sticky) -> Iterator[str]:
    for call in message.get("tool_calls") or ():
        yield call["id"]
    if sticky == "conversation" and isinstance(message["content"], str) and message["content"]:
        yield hashlib.sha256(message["content"].encode("utf-8", "surrogatepass")).hexdigest()
