"""``model="router"``: which calls fit into one POST /v1/router, and the body of that request. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from lunar_core.wire.api_requests import ROUTER

Sticky = Literal["off", "tools", "conversation"]
"""When a routed conversation stays with the model that answered before: never, for the results of the tools that it
called, or for the rest of the conversation."""

BREAK_TIES = 1e-6
"""A ``cost_weight`` that picks the cheapest of the models with the same expected error, and changes nothing else.

The service weighs USD per 1,000 tokens, and at weight 0 breaks ties by the order of ``models``, often to the dearest;
more than half of its clusters tie. At this weight the dearest model's price counts for 0.00000002 of error.
"""

ROUTER_FIELDS = ("models", "cost_weight")
"""The fields by which the router chooses. They are not sent to a named model."""

_ROUTER_TAKES = {"model", "messages", "max_tokens", "temperature", *ROUTER_FIELDS}
_TEXT_ROLES = {"system", "user", "assistant"}


def is_routed(params: Mapping[str, object]) -> bool:
    return params.get("model") == ROUTER


def without_router_fields(params: Mapping[str, object]) -> dict[str, object]:
    """``params`` without ``ROUTER_FIELDS``."""
    return {key: value for key, value in params.items() if key not in ROUTER_FIELDS}


def takes_one_request(params: Mapping[str, object]) -> bool:
    """Whether POST /v1/router can carry the whole call. If not, a decision is requested first, then chat/completions.

    It documents messages of plain text, ``max_tokens`` and ``temperature``. Everything else (tools, stop sequences,
    images) needs chat/completions, so that nothing is dropped. So do streams, because a stream of the router states
    neither the reason for the choice nor the cost.
    """
    messages = params.get("messages")
    return {key for key, value in params.items() if value is not None} <= _ROUTER_TAKES and (
        isinstance(messages, list) and all(_is_plain(message) for message in messages)
    )


def execute_params(params: Mapping[str, object]) -> dict[str, object]:
    """The body of POST /v1/router for a call that it can carry."""
    return {key: value for key, value in params.items() if key != "model"}


def decide_params(params: Mapping[str, object]) -> dict[str, object]:
    """The body of POST /v1/router for a decision alone, from the text of the call's messages."""
    router = {key: params[key] for key in ROUTER_FIELDS if key in params}
    return {"messages": text_turns(params.get("messages")), "execute": False, **router}


def text_turns(messages: object) -> object:
    """The part of a conversation that the router can read: the text of system, user and assistant messages."""
    if not isinstance(messages, list):
        return messages
    turns = []
    for message in messages:
        if not isinstance(message, Mapping):
            return messages  # the check of the call refuses it
        role = "system" if message.get("role") == "developer" else message.get("role")
        text = _text_of(message.get("content"))
        if role in _TEXT_ROLES and (text or role == "user"):
            turns.append({"role": role, "content": text})
    return turns or [{"role": "user", "content": ""}]


def find_sticky_answer(
    messages: Sequence[Mapping[str, object]], sticky: Sticky
) -> Mapping[str, object] | None:
    """The assistant's message whose model answers again; None if the router chooses.

    ``messages``: a conversation in the form of the API. ``sticky``: "tools" keeps the model while the conversation ends
    with results of tools that its answer called, since models differ in the ids and forms of tool calls. "conversation"
    keeps it from its first answer on. "off" never keeps it.

    >>> question, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    >>> find_sticky_answer([question, answer, question], "conversation") is answer
    True
    >>> find_sticky_answer([question, answer, question], "tools")
    """
    if sticky == "off":
        return None
    for message in reversed(messages):
        if message.get("role") == "assistant":
            has_results = bool(message.get("tool_calls")) and message is not messages[-1]
            return message if has_results or sticky == "conversation" else None
        if sticky == "tools" and message.get("role") != "tool":
            return None
    return None


def with_cost_weight(params: Mapping[str, object]) -> dict[str, object]:
    """``params`` with the result of a ``cost_weight`` that is a function. It is called once for each routed call.

    The result is checked when the request is made.
    """
    weight = params.get("cost_weight")
    return {**params, "cost_weight": weight()} if callable(weight) else dict(params)


def candidates(params: Mapping[str, object]) -> tuple[str, ...]:
    """The models that the router has to choose from; () if the call names none."""
    models = params.get("models")
    return tuple(models) if isinstance(models, (list, tuple)) else ()


def cost_weight(params: Mapping[str, object]) -> float | None:
    """The ``cost_weight`` of the call as a number, or None."""
    weight = params.get("cost_weight")
    return weight if isinstance(weight, (int, float)) else None


def _is_plain(message: object) -> bool:
    return (
        isinstance(message, Mapping)
        and message.keys() <= {"role", "content"}
        and message.get("role") in _TEXT_ROLES
        and isinstance(message.get("content"), str)
    )


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return ""
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in content
        if isinstance(part, (str, Mapping))
    ]
    return "\n".join(text for text in texts if isinstance(text, str))
