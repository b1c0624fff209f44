"""Answers by another server: any that speaks OpenAI's ``/v1/chat/completions``.

Ollama, vLLM, llama.cpp, a provider: the sandbox forwards the request and adds what Lunar says on
top: usage with costs (by the catalogue's prices; a model that isn't there has none), latency,
routing. The provider's prefix and the fault's suffix of a model's name are taken off; a fixed
model may stand in for all (``--upstream-model``), so that the router has six to choose from where
the upstream has one.

The upstream's key, if it wants one, is read from :data:`KEY_VARIABLE`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from lunar_core.sandbox.generate import Answer, Choice, Piece, prompt_tokens
from lunar_core.sandbox.sources import Ask, FailedError
from lunar_core.sandbox.usage import PER_MESSAGE, Tokens

KEY_VARIABLE = "LUNAR_SANDBOX_UPSTREAM_KEY"
_OURS = frozenset(
    {"model", "messages", "prompt", "stream", "provider", "fallbacks", "stream_options"}
)


class Upstream:
    """Forwards generation to an OpenAI-compatible server."""

    def __init__(self, url: str, *, key: str | None = None, model: str | None = None) -> None:
        base = url.rstrip("/")
        self._model = model
        self._client = httpx.AsyncClient(
            base_url=base if base.endswith("/v1") else f"{base}/v1",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(600, connect=5),
            limits=httpx.Limits(max_connections=None),
        )

    async def answer(self, ask: Ask) -> Answer:
        """Ask for a whole answer."""
        try:
            response = await self._client.post(_path(ask), json=self._body(ask, stream=False))
        except httpx.HTTPError as error:
            raise FailedError(f"{type(error).__name__}: {error}") from error
        said = _checked(response.status_code, response.content)
        try:
            choices = [_choice(ask, choice) for choice in said["choices"]]
            written = sum(prompt_tokens([choice.message]) - PER_MESSAGE for choice in choices)
        except (KeyError, TypeError, AttributeError) as error:
            raise FailedError(f"no completion: {response.text[:200]}") from error
        if not choices:
            raise FailedError("no choices")
        return Answer(choices, _tokens(said.get("usage")) or Tokens(_prompt(ask), written))

    async def stream(self, ask: Ask) -> tuple[Tokens, AsyncGenerator[Piece, None]]:
        """Ask for a stream; what fails before its first byte fails here."""
        request = self._client.build_request("POST", _path(ask), json=self._body(ask, stream=True))
        try:
            response = await self._client.send(request, stream=True)
            if response.status_code != 200:
                _checked(response.status_code, await response.aread())
        except httpx.HTTPError as error:
            raise FailedError(f"{type(error).__name__}: {error}") from error
        return Tokens(_prompt(ask), 0), _pieces(ask, response)

    def _body(self, ask: Ask, *, stream: bool) -> dict[str, Any]:
        body = {
            name: value
            for name, value in ask.options.items()
            if name not in _OURS and value is not None
        }
        body["model"] = self._model or ask.name
        if ask.kind == "text":
            body["prompt"] = ask.messages[0]["content"]
        else:
            body["messages"] = ask.messages
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def _path(ask: Ask) -> str:
    return "/completions" if ask.kind == "text" else "/chat/completions"


def _prompt(ask: Ask) -> int:
    return prompt_tokens(ask.messages, ask.options)


def _checked(status: int, content: bytes) -> dict[str, Any]:
    """Read an upstream's body."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if status != 200 or not isinstance(said, dict):
        raise FailedError(f"{status} {content[:500].decode('utf-8', 'replace')}")
    return said


def _choice(ask: Ask, choice: Mapping[str, Any]) -> Choice:
    if ask.kind == "text":
        message = {"role": "assistant", "content": choice["text"]}
    else:
        message = {"content": None, **choice["message"]}
    return Choice(message, choice.get("finish_reason") or "stop", choice.get("logprobs"))


def _tokens(usage: Any) -> Tokens | None:
    """Read an upstream's count; None where it makes none, or none that adds up."""
    if not isinstance(usage, Mapping):
        return None
    read = usage.get("prompt_tokens_details")
    written = usage.get("completion_tokens_details")
    counts: list[Any] = [
        usage.get("prompt_tokens"),
        usage.get("completion_tokens") or 0,
        (read.get("cached_tokens") or 0) if isinstance(read, Mapping) else 0,
        (written.get("reasoning_tokens") or 0) if isinstance(written, Mapping) else 0,
    ]
    if not all(type(each) is int and each >= 0 for each in counts):
        return None
    return Tokens(*counts)


async def _pieces(ask: Ask, response: httpx.Response) -> AsyncGenerator[Piece, None]:
    """Read the upstream's stream. Finishing pieces wait for its usage, which comes last.

    Raises:
        FailedError: it failed after it had begun, or ended early.
    """
    ends: dict[int, str] = {}
    counted: Tokens | None = None
    try:
        async with aclosing(response):
            async for chunk in _chunks(response):
                counted = _tokens(chunk.get("usage")) or counted
                for choice in chunk["choices"]:
                    if piece := _piece(ask, choice):
                        yield piece
                    if reason := choice.get("finish_reason"):
                        ends[choice.get("index", 0)] = reason
    except (httpx.HTTPError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise FailedError(f"{type(error).__name__}: {error}") from error
    if not ends:
        raise FailedError("the upstream's stream ended without a finish_reason")
    for number in range(ask.options.get("n") or 1):
        yield Piece(number, {}, finish_reason=ends.get(number, "stop"), counted=counted)


async def _chunks(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    async for line in _lines(response):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            chunk = json.loads(data)
            if "choices" not in chunk:
                raise FailedError(data[:500].decode("utf-8", "replace"))
            yield chunk


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Cut at line feeds alone: httpx's own lines end at U+2028, which may stand in JSON, too."""
    rest = b""
    async for block in response.aiter_bytes():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line


def _piece(ask: Ask, choice: Mapping[str, Any]) -> Piece | None:
    text = ask.kind == "text"
    delta = {"content": choice.get("text")} if text else choice.get("delta") or {}
    # The role is ours to say; empty strings and nulls say nothing.
    delta = {name: value for name, value in delta.items() if name != "role" and value}
    if not delta:
        return None
    return Piece(choice.get("index", 0), delta, tokens=1, logprobs=choice.get("logprobs"))
