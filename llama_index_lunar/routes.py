"""Which decision of the router an answer came from, so that what builds on it can stay with its model."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage

from llama_index_lunar.messages import to_message

JSONObject = dict[str, Any]

Sticky = Literal["off", "tools", "conversation"]
"""When a routed LLM stays with the model that answered before: never, for the results of the tools that it
called, or for all that follows in a conversation."""

MAX_REMEMBERED = 10_000
"""Answers whose route is remembered. Of more, those given longest ago are forgotten."""


class Routes:
    """The decisions of the latest answers.

    Answers are known by the ids of their tool calls, or by their text: LlamaIndex's memories keep nothing else.
    """

    def __init__(self) -> None:
        self._routes: OrderedDict[str, JSONObject] = OrderedDict()

    def remember(self, marks: Iterable[str], route: JSONObject) -> None:
        for mark in marks:
            self._routes[mark] = route
        while len(self._routes) > MAX_REMEMBERED:
            with suppress(KeyError):  # another thread was quicker
                self._routes.popitem(last=False)

    def of(self, marks: Iterable[str]) -> JSONObject | None:
        return next((route for mark in marks if (route := self._routes.get(mark))), None)


def answer_marks(message: ChatMessage, sticky: Sticky) -> Iterator[str]:
    """By what an answer will be known again."""
    return _marks(to_message(message), sticky)


def asked_of(messages: Sequence[Mapping[str, Any]], sticky: Sticky) -> Iterator[str]:
    """The marks of the answer that a conversation, as it is sent, goes on from."""
    if sticky == "off" or not messages:
        return
    if sticky == "tools" and messages[-1]["role"] != "tool":
        return
    answer = next((each for each in reversed(messages) if each["role"] == "assistant"), None)
    if answer is not None:
        yield from _marks(answer, sticky)


def _marks(message: Mapping[str, Any], sticky: Sticky) -> Iterator[str]:
    for call in message.get("tool_calls") or ():
        yield call["id"]
    if sticky == "conversation" and isinstance(message["content"], str) and message["content"]:
        yield hashlib.sha256(message["content"].encode("utf-8", "surrogatepass")).hexdigest()
