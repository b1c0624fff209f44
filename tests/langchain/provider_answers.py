"""Answers of a provider, plain and streamed, as the service passes them on."""

from __future__ import annotations

import pytest

from tests.faults_steps import DONE, USAGE, chunk, completion, reply, sse

STREAMED = pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])


def function(name, arguments="{}", call_id="c1", **fields):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **fields}


def plain(finish_reason="stop", **message):
    message = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return reply(json=completion(choices=[choice]))


def streamed(*deltas, finish_reason="stop"):
    pieces = [
        chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas
    ]
    return sse(*pieces, chunk(finish=finish_reason, usage=USAGE), DONE)


def answer(is_streamed, finish_reason="stop", **message):
    """The same message, whole or as a stream."""
    if not is_streamed:
        return plain(finish_reason, **message)
    calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls", ()))]
    deltas = [{name: value} for name, value in message.items()]
    return streamed(
        *deltas, *([{"tool_calls": calls}] if calls else ()), finish_reason=finish_reason
    )


def ask(way, model, messages, is_streamed):
    return way.streamed(model, messages) if is_streamed else way.invoke(model, messages)
