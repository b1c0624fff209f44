"""The calls that are on tape, and how a tape is written and matched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import vcr

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcr.request import Request

FOLDER = Path(__file__).parent
HARD = [{"role": "user", "content": "Prove that there are infinitely many primes. Be brief."}]
CANDIDATES = ["gpt-4o", "gpt-4o-mini"]
PARIS = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ],
    "tool_choice": "required",
}


def chat(client: Any, **more: Any) -> Any:
    params = {"model": "gpt-4o-mini", "messages": HARD, "max_tokens": 100, "temperature": 0.5}
    return client.chat.completions.create(**params | more)


def text(client: Any, **more: Any) -> Any:
    params = {"model": "gpt-4o-mini", "prompt": "Once upon a time", "max_tokens": 50}
    return client.completions.create(**params | more)


def router(client: Any, **more: Any) -> Any:
    params = {"messages": HARD, "models": CANDIDATES, "cost_weight": 0.3, "max_tokens": 100}
    return client.router.create(**params | more)


def tools(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(**PARIS | more)


def read(stream: Any) -> Any:
    return stream.get_final_completion()


CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": chat,
    "chat.stream": lambda client: read(chat(client, stream=True)),
    "tools": tools,
    "tools.stream": lambda client: read(tools(client, stream=True)),
    "completions": text,
    "completions.stream": lambda client: read(text(client, stream=True)),
    "router": router,
    "router.stream": lambda client: read(router(client, stream=True)),
    "router.decide": lambda client: client.router.decide(messages=HARD, models=CANDIDATES),
    "router.then-chat": lambda client: chat(client, model="router", stop=["QED"]),
    "router.then-chat.stream": lambda client: read(
        chat(client, model="router", stop=["QED"], stream=True)
    ),
    "router.profiles": lambda client: client.router.profiles(),
    "providers": lambda client: client.providers.list(model="gpt-4o-mini"),
    "models": lambda client: client.models.list(),
    "no-such-model": lambda client: chat(client, model="no-such-model"),
}


def tape(name: str, *, recording: bool = False) -> Any:
    """A context in which httpx's own clients meet the tape `name` in place of a network."""
    recorder = vcr.VCR(
        record_mode=vcr.mode.ALL if recording else vcr.mode.NONE,
        match_on=["method", "path", "query", "json"],
        before_record_request=without_secrets,
        before_record_response=plain,
        decode_compressed_response=True,
    )
    recorder.register_matcher("json", the_same_json)
    return recorder.use_cassette(str(FOLDER / f"{name}.yaml"), allow_playback_repeats=not recording)


def the_same_json(sent: Request, taped: Request) -> None:
    """Every field that is sent must be on the tape, with the same value, and no other."""
    assert decoded(sent) == decoded(taped), f"sent {decoded(sent)}, on the tape {decoded(taped)}"


def decoded(request: Request) -> Any:
    return json.loads(request.body) if request.body else None


KEPT_HEADERS = {"accept", "content-type", "retry-after", "x-request-id"}
ROUTE_HEADERS = {"x-routing-model", "x-routing-cluster"}


def without_secrets(request: Request) -> Request:
    """Keep what says what is asked: no key is among it, no machine, no port."""
    request.uri = urlsplit(request.uri)._replace(scheme="https", netloc="service").geturl()
    request.headers = {k: v for k, v in request.headers.items() if k.lower() in KEPT_HEADERS}
    return request


def plain(response: dict[str, Any]) -> dict[str, Any]:
    kept = KEPT_HEADERS | ROUTE_HEADERS
    headers = response["headers"].items()
    response["headers"] = {k: v for k, v in headers if k.lower() in kept}
    return response
