"""A provider as a test scripts it, for LLMs whose httpx client is answered in this process."""

from __future__ import annotations

import json

import httpx
from llama_index.core.base.llms.types import ChatMessage

from llama_index_lunar import LunarLLM

CHATS = ["chat", "achat", "stream_chat", "astream_chat"]


RESULT = ChatMessage("r", role="tool", additional_kwargs={"tool_call_id": "c1"})


class Service:
    """Answers in order, the last one again and again; keeps what it was sent.

    A dict is an answer, streamed where a stream was asked for; a list holds the events of a stream.
    """

    def __init__(self, *answers):
        self.answers, self.bodies = list(answers), []

    def handle(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, list):
            return as_stream(answer)
        return (
            as_stream(as_events(answer)) if body.get("stream") else httpx.Response(200, json=answer)
        )

    async def ahandle(self, request):
        return self.handle(request)

    def llm(self, **options):
        return LunarLLM(
            **{"model": "m", "api_key": "pk_test_habits", "max_retries": 0, **options},
            http_client=httpx.Client(transport=httpx.MockTransport(self.handle)),
            async_http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.ahandle)),
        )


def as_events(answer):
    """The events of the same answer: the message in one piece, then the finish_reason."""
    (choice,) = answer["choices"]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(delta["tool_calls"])]
    end = {key: value for key, value in choice.items() if key != "message"}
    return [
        {**answer, "choices": [{"index": 0, "delta": delta}]},
        {"choices": [{**end, "delta": {}}]},
    ]


def answer(finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "a1", "choices": [choice]}


def call(name, arguments, call_id="c1", **more):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


async def last_of(llm, endpoint, messages, **kwargs):
    response = getattr(llm, endpoint)(messages, **kwargs)
    response = await response if endpoint.startswith("a") else response
    if "stream" not in endpoint:
        return response
    if endpoint.startswith("a"):
        return [chunk async for chunk in response][-1]
    return list(response)[-1]


def as_stream(events):
    """A response that streams `events`, each JSON or its text."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {text}\n\n" for text in [*texts, "[DONE]"])
    return httpx.Response(200, text=body, headers={"content-type": "text/event-stream"})
