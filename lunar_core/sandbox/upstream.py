"""Answers by another server: any that has OpenAI's ``/v1/chat/completions``.

For Ollama, vLLM, llama.cpp or a provider, the sandbox forwards the request and adds Lunar's own
fields: usage with costs (by the catalogue's prices; a model that isn't there has none), latency,
routing. It removes the provider's prefix and the fault's suffix from a model's name. A fixed model
may replace all names (``--upstream-model``), so that the router has six to choose from even if the
upstream has one.

The upstream's key, if it needs one, is read from ``KEY_VARIABLE``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from lunar_core.sandbox.answers import Answer, Choice, Piece
from lunar_core.sandbox.conversation import prompt_tokens
from lunar_core.sandbox.sources import SourceError, Task
from lunar_core.sandbox.usage import PER_MESSAGE, Tokens

KEY_VARIABLE = "LUNAR_SANDBOX_UPSTREAM_KEY"
_OURS = frozenset(
    {"model", "messages", "prompt", "stream", "provider", "fallbacks", "stream_options"}
)


class Upstream:
    """Forwards generation to an OpenAI-compatible server.

    ``url``: its base URL, with or without ``/v1``. ``key``: its key, if it needs one. ``model``: the model to request,
    whichever the caller named. ``empty_is_text``: whether an answer without choices or text is an empty text, as the
    hosted backend has it, and not a failure.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        empty_is_text: bool = False,
    ) -> None:
        base = url.rstrip("/")
        self._model = model
        self._empty_is_text = empty_is_text
        self._client = httpx.AsyncClient(
            base_url=base if base.endswith("/v1") else f"{base}/v1",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(600, connect=5),
            limits=httpx.Limits(max_connections=None),
        )

    async def answer(self, task: Task) -> Answer:
        """Request a whole answer."""
        try:
            response = await self._client.post(_path(task), json=self._body(task, stream=False))
        except httpx.HTTPError as error:
            raise SourceError(f"{type(error).__name__}: {error}") from error
        reply = _read_reply(response.status_code, response.content)
        if self._empty_is_text and not _has_text(reply):
            return Answer([_EMPTY], _tokens(reply.get("usage")) or Tokens(_prompt(task), 0))
        try:
            choices = [_choice(task, choice) for choice in reply["choices"]]
            written = sum(prompt_tokens([choice.message]) - PER_MESSAGE for choice in choices)
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"no completion: {response.text[:200]}") from error
        if not choices:
            raise SourceError("no choices")
        return Answer(choices, _tokens(reply.get("usage")) or Tokens(_prompt(task), written))

    async def stream(self, task: Task) -> tuple[Tokens, AsyncGenerator[Piece, None]]:
        """Request a stream. Raises SourceError for a failure before its first byte."""
        request = self._client.build_request(
            "POST", _path(task), json=self._body(task, stream=True)
        )
        try:
            response = await self._client.send(request, stream=True)
            if response.status_code != 200:
                _read_reply(response.status_code, await response.aread())
        except httpx.HTTPError as error:
            raise SourceError(f"{type(error).__name__}: {error}") from error
        return Tokens(_prompt(task), 0), _pieces(task, response)

    def _body(self, task: Task, *, stream: bool) -> dict[str, Any]:
        body = {
            name: value
            for name, value in task.options.items()
            if name not in _OURS and value is not None
        }
        body["model"] = self._model or task.name
        if task.kind == "text":
            body["prompt"] = task.messages[0]["content"]
        else:
            body["messages"] = task.messages
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def _has_text(reply: Mapping[str, Any]) -> bool:
    """Say whether an answer has a first choice with a text in it."""
    try:
        choice = reply["choices"][0]
        return bool(choice.get("text") or choice["message"]["content"])
    except (KeyError, IndexError, TypeError, AttributeError):
        return False


_EMPTY = Choice({"role": "assistant", "content": ""}, "stop")


def _path(task: Task) -> str:
    return "/completions" if task.kind == "text" else "/chat/completions"


def _prompt(task: Task) -> int:
    return prompt_tokens(task.messages, task.options)


def _read_reply(status: int, content: bytes) -> dict[str, Any]:
    """Read an upstream's body."""
    try:
        reply = json.loads(content)
    except ValueError:
        reply = None
    if status != 200 or not isinstance(reply, dict):
        raise SourceError(f"{status} {content[:500].decode('utf-8', 'replace')}")
    return reply


def _choice(task: Task, choice: Mapping[str, Any]) -> Choice:
    if task.kind == "text":
        message = {"role": "assistant", "content": choice["text"]}
    else:
        message = {"content": None, **choice["message"]}
    return Choice(message, choice.get("finish_reason") or "stop", choice.get("logprobs"))


def _tokens(usage: Any) -> Tokens | None:
    """Read an upstream's token counts; None if it states none, or an invalid one."""
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
    if not all(type(number) is int and number >= 0 for number in counts):
        return None
    return Tokens(*counts)


async def _pieces(task: Task, response: httpx.Response) -> AsyncGenerator[Piece, None]:
    """Read the upstream's stream. Finishing pieces wait for its usage, which comes last.

    Raises SourceError if it failed after it had begun, or ended early.
    """
    ends: dict[int, str] = {}
    counted: Tokens | None = None
    try:
        async with aclosing(response):
            async for chunk in _chunks(response):
                counted = _tokens(chunk.get("usage")) or counted
                for choice in chunk["choices"]:
                    if piece := _piece(task, choice):
                        yield piece
                    if reason := choice.get("finish_reason"):
                        ends[choice.get("index", 0)] = reason
    except (httpx.HTTPError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error
    if not ends:
        raise SourceError("the upstream's stream ended without a finish_reason")
    for number in range(task.options.get("n") or 1):
        yield Piece(number, {}, finish_reason=ends.get(number, "stop"), counted=counted)


async def _chunks(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    async for line in _lines(response):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            chunk = json.loads(data)
            if "choices" not in chunk:
                raise SourceError(data[:500].decode("utf-8", "replace"))
            yield chunk


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Split at line feeds only: httpx's own lines also end at U+2028, which JSON may contain."""
    rest = b""
    async for block in response.aiter_bytes():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line


def _piece(task: Task, choice: Mapping[str, Any]) -> Piece | None:
    text = task.kind == "text"
    delta = {"content": choice.get("text")} if text else choice.get("delta") or {}
    # The role is ours to say; empty strings and nulls say nothing.
    delta = {name: value for name, value in delta.items() if name != "role" and value}
    if not delta:
        return None
    return Piece(choice.get("index", 0), delta, tokens=1, logprobs=choice.get("logprobs"))
