"""What a LunarLLM sends, and how answers come: the endpoints without LlamaIndex's events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)

from llama_index_lunar.base import LunarSettings
from llama_index_lunar.endpoints import opened
from llama_index_lunar.messages import to_message, to_wire
from llama_index_lunar.reporting import attributed
from llama_index_lunar.responses import ChatChunks, TextChunks, chat_response, text_response
from lunar_core.errors import ConfigurationError
from lunar_core.wire.api_requests import ROUTER

JSONObject = dict[str, Any]

# Fields that are sent as they are, where they were given.
_SENT = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "provider",
    "logprobs",
    "reasoning_effort",
    "modalities",
)

_WITH_USAGE = {"include_usage": True}


class LunarCalls(LunarSettings):
    """One method for each way to ask: chats and texts, whole and streamed, sync and async."""

    def _chat(self, messages: Sequence[ChatMessage], given: JSONObject) -> ChatResponse:
        params, route = self._chat_params(to_wire(messages), given)
        with attributed(self.callback_manager):
            answer = self._current_clients().sync.chat.completions.create(**params)
        return self._answered(chat_response(answer, route))

    async def _achat(self, messages: Sequence[ChatMessage], given: JSONObject) -> ChatResponse:
        params, route = self._chat_params(to_wire(messages), given)
        with attributed(self.callback_manager):
            answer = await self._current_clients().asynchronous.chat.completions.create(**params)
        return self._answered(chat_response(answer, route))

    def _stream_chat(self, messages: Sequence[ChatMessage], given: JSONObject) -> ChatResponseGen:
        params, route = self._chat_params(to_wire(messages), given, stream=True)
        with attributed(self.callback_manager):
            stream = opened(
                self._current_clients().sync.chat.completions.create(stream=True, **params)
            )
        chunks = ChatChunks(route)

        def responses() -> ChatResponseGen:
            for chunk in stream.plain_chunks():
                yield from chunks.feed(chunk)
            yield self._answered(chunks.last(stream))

        return responses()

    async def _astream_chat(
        self, messages: Sequence[ChatMessage], given: JSONObject
    ) -> ChatResponseAsyncGen:
        params, route = self._chat_params(to_wire(messages), given, stream=True)
        with attributed(self.callback_manager):
            client = self._current_clients().asynchronous
            stream = opened(await client.chat.completions.create(stream=True, **params))
        chunks = ChatChunks(route)

        async def responses() -> ChatResponseAsyncGen:
            async for chunk in stream.plain_chunks():
                for response in chunks.feed(chunk):
                    yield response
            yield self._answered(chunks.last(stream))

        return responses()

    def _text(self, prompt: str, given: JSONObject) -> CompletionResponse:
        with attributed(self.callback_manager):
            answer = self._current_clients().sync.completions.create(
                **self._text_params(prompt, given)
            )
        return text_response(answer)

    async def _atext(self, prompt: str, given: JSONObject) -> CompletionResponse:
        params = self._text_params(prompt, given)
        with attributed(self.callback_manager):
            answer = await self._current_clients().asynchronous.completions.create(**params)
        return text_response(answer)

    def _stream_text(self, prompt: str, given: JSONObject) -> CompletionResponseGen:
        params = self._text_params(prompt, given, stream=True)
        with attributed(self.callback_manager):
            stream = opened(self._current_clients().sync.completions.create(stream=True, **params))
        chunks = TextChunks()

        def responses() -> CompletionResponseGen:
            for chunk in stream.plain_chunks():
                yield from chunks.feed(chunk)
            yield chunks.last(stream)

        return responses()

    async def _astream_text(self, prompt: str, given: JSONObject) -> CompletionResponseAsyncGen:
        params = self._text_params(prompt, given, stream=True)
        with attributed(self.callback_manager):
            client = self._current_clients().asynchronous
            stream = opened(await client.completions.create(stream=True, **params))
        chunks = TextChunks()

        async def responses() -> CompletionResponseAsyncGen:
            async for chunk in stream.plain_chunks():
                for response in chunks.feed(chunk):
                    yield response
            yield chunks.last(stream)

        return responses()

    # Requests

    def _chats(self, given: JSONObject) -> bool:
        """Whether this call goes to chat/completions. ``use_chat_completions`` says so per call, and is not sent."""
        asked = given.pop("use_chat_completions", None)
        return self.is_chat_model if asked is None else bool(asked)

    def _chat_params(
        self, messages: list[JSONObject], given: JSONObject, *, stream: bool = False
    ) -> tuple[JSONObject, JSONObject | None]:
        """The keywords of chat.completions.create, and the earlier decision that they keep to, if any."""
        params = {**self._params(given, stream=stream), "messages": messages}
        route = None
        if params["model"] == ROUTER:
            route = self._routes.find(messages, self.sticky)
            if route is not None:
                params["model"] = route["selected_model"]
        if stream:
            params.setdefault("stream_usage", True)
        return params, route

    def _text_params(self, prompt: str, given: JSONObject, *, stream: bool = False) -> JSONObject:
        params = {**self._params(given, stream=stream), "prompt": prompt}
        if params.get("max_tokens") is None and hasattr(self.tokenizer, "encode"):
            params["max_tokens"] = self._room_after(prompt)
        if params.get("logprobs") is True:  # text completions say how many, in one field
            params["logprobs"] = params.pop("top_logprobs", None) or 0
        if stream:
            params.setdefault("stream_usage", True)
        return params

    def _room_after(self, prompt: str) -> int:
        """The tokens that are left for the answer: of text completions the service itself allows few."""
        window, taken = self.metadata.context_window, len(self.tokenizer.encode(prompt))
        if taken >= window:
            raise ConfigurationError(f"prompt: {taken} tokens do not fit into the model's {window}")
        return window - taken

    def _params(self, given: Mapping[str, object], *, stream: bool) -> JSONObject:
        """What is sent beside the messages: fields, then ``additional_kwargs``, then what this call was given."""
        fields: JSONObject = {
            name: value for name in _SENT if (value := getattr(self, name)) is not None
        }
        if self.logprobs:
            fields |= {"top_logprobs": self.top_logprobs}
        if self.audio_config is not None:
            fields["audio"] = self.audio_config
        params = {"model": self.model, **fields, **merged(self.additional_kwargs, given)}
        params.pop("stream", None)  # the endpoint says it
        if not stream or params.get("stream_options") == _WITH_USAGE:
            params.pop("stream_options", None)  # refused of plain calls; streams ask for it anyway
        if params["model"] == ROUTER:
            params = {"models": self.models, "cost_weight": self.cost_weight, **params}
        return params

    def _answered(self, response: ChatResponse) -> ChatResponse:
        """Remember how it was routed, for the calls that build on it."""
        route = response.additional_kwargs.get("routing")
        if route is not None and self.sticky != "off":
            self._routes.remember(to_message(response.message), route, self.sticky)
        return response

    def _prompt(self, messages: Sequence[ChatMessage]) -> str:
        return self.messages_to_prompt(messages)  # type: ignore[misc]  # never None: validators set it

    def _formatted(self, prompt: str, formatted: bool) -> str:
        return prompt if formatted else self.completion_to_prompt(prompt)  # type: ignore[misc]  # as above


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> JSONObject:
    """Both; ``second`` wins, field by field in ``extra_body`` too."""
    found = {**first, **second}
    one, other = first.get("extra_body"), second.get("extra_body")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found["extra_body"] = {**one, **other}
    return found
