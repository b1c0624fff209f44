"""Matches the results of tools to their calls, in a conversation in the form of the API. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Turn = dict[str, Any]  # decoded JSON of a message


def match_results(turns: list[Turn]) -> list[Turn]:
    """Give each tool call an id of its own, and each result the id of its call. Changes ``turns``.

    Some vendors use no ids, the tool's name for an id, or ``call_0`` again in each turn, and others refuse an id that
    came before. Results follow in the order of the calls, or name the tool.

    >>> call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    >>> turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "", "content": "r"}]
    >>> match_results(turns)[1]["tool_call_id"]
    'call_0_0'
    """
    waiting: list[_Waiting] = []  # the calls that have no result yet
    used: set[str] = set()
    for number, turn in enumerate(turns):
        if turn.get("tool_calls"):
            waiting = []
            for position, call in enumerate(turn["tool_calls"]):
                stated = call["id"]
                if not stated or stated in used:
                    call["id"] = f"call_{number}_{position}"
                used.add(call["id"])
                name = (call.get("function") or call["custom"])["name"]
                waiting.append(_Waiting(call["id"], stated, name))
        elif turn["role"] == "tool":
            call_of_result = _match(waiting, turn["tool_call_id"], turn.get("name"))
            if call_of_result is not None:
                waiting.remove(call_of_result)
                turn["tool_call_id"] = call_of_result.call_id
    return turns


class _Waiting(NamedTuple):
    call_id: str
    stated_id: str
    name: str


def _match(waiting: Sequence[_Waiting], call_id: str, name: str | None) -> _Waiting | None:
    """The call of a result: the one with its id, else with its name, else the first that waits."""
    by_id = [call for call in waiting if call_id and call_id in (call.call_id, call.stated_id)]
    by_name = [call for call in waiting if call.name in (call_id, name)]
    in_order = [] if call_id else waiting
    return next(iter([*by_id, *by_name, *in_order]), None)
