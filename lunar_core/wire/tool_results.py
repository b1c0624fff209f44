"""Matches the results of tools to their calls, in a conversation in the form of the API. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Turn = dict[str, Any]  # decoded JSON of a message


def match_results(turns: list[Turn]) -> list[Turn]:
    """Give ids to tool calls without one, and to each result the id of its call. Changes ``turns``.

    Some vendors use no ids: results follow in the order of the calls, or name the tool.

    >>> call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    >>> turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "", "content": "r"}]
    >>> match_results(turns)[1]["tool_call_id"]
    'call_0_0'
    """
    waiting: list[tuple[str, str]] = []  # id and name of the calls that have no result yet
    for number, turn in enumerate(turns):
        if turn.get("tool_calls"):
            waiting = []
            for position, call in enumerate(turn["tool_calls"]):
                call["id"] = call["id"] or f"call_{number}_{position}"
                waiting.append((call["id"], (call.get("function") or call["custom"])["name"]))
        elif turn["role"] == "tool":
            call_of_result = _match(waiting, turn["tool_call_id"], turn.get("name"))
            if call_of_result is not None:
                waiting.remove(call_of_result)
                turn["tool_call_id"] = call_of_result[0]
    return turns


def _match(
    waiting: Sequence[tuple[str, str]], call_id: str, name: str | None
) -> tuple[str, str] | None:
    """The call of a result: the one with its id, else with its name, else the first that waits."""
    by_id = [call for call in waiting if call[0] == call_id]
    by_name = [call for call in waiting if call[1] in (call_id, name)]
    in_order = [] if call_id else waiting
    return next(iter([*by_id, *by_name, *in_order]), None)
