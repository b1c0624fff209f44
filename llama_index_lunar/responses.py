"""Turns answers of the API into LlamaIndex's responses.

An answer's cost and route are in the response's ``additional_kwargs``, flat, and in ``raw``, a plain dict: token
counters, agents and tracers look there. In a stream they are on the last response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)

from llama_index_lunar.answer_parts import (
    AnswerToolCall,
    first_choice,
    keep_for_replay,
    make_message,
    read_logprobs,
    split_calls,
    string,
)
from llama_index_lunar.chunks import ChatChunks, CompletionChunks, StreamFacts
from llama_index_lunar.client_call import ClientCall
from llama_index_lunar.errors import is_in_words, make_ignored_error
from llama_index_lunar.metadata import (
    answer_metadata,
    complete_raw,
    find_writer,
    reasoning_tokens,
)
from lunar_core import bridge
from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.wire.replay import SIGNED_FIELDS

JSONObject = dict[str, Any]
Response = ChatResponse | CompletionResponse
A = TypeVar("A", bound=ChatResponse | CompletionResponse)


class Responses(Generic[A]):
    """Makes the responses of one call: of a whole answer, or of a stream's chunks as they come.

    ``remember``: called with the message and the route of each routed answer.
    """

    def __init__(
        self, call: ClientCall[A], remember: Callable[[ChatMessage, JSONObject], None]
    ) -> None:
        self._call = call
        self._remember = remember
        self._chunks: ChatChunks | CompletionChunks
        self._chunks = (
            ChatChunks(call.route, call.own_names) if call.is_chat else CompletionChunks()
        )

    def whole(self, answer: ChatCompletion | Completion) -> A:
        """The response for a whole answer. Raises ToolChoiceIgnoredError if a forced tool call is missing."""
        if isinstance(answer, ChatCompletion):
            return self._finish(chat_response(answer, self._call.route, self._call.own_names))
        return self._finish(text_response(answer))

    def feed(self, chunk: JSONObject) -> Sequence[A]:
        """The responses to hand out after ``chunk``, in order."""
        return [self._call.convert(response) for response in self._chunks.feed(chunk)]

    def last(self, stream: StreamFacts) -> A:
        """The response that ends a stream. Raises ToolChoiceIgnoredError as ``whole`` does."""
        return self._finish(self._chunks.last(stream))

    def _finish(self, response: Response) -> A:
        forced_tools = self._call.forced_tools
        if forced_tools and isinstance(response, ChatResponse) and is_in_words(response):
            raise make_ignored_error(response, forced_tools)
        route = response.additional_kwargs.get("routing")
        if route is not None and isinstance(response, ChatResponse):
            self._remember(response.message, route)
        return self._call.convert(response)


def chat_response(
    answer: ChatCompletion,
    routing: JSONObject | None = None,
    own_names: Mapping[str, str] = MappingProxyType({}),
) -> ChatResponse:
    """The response for a whole answer of a chat.

    ``routing``: the decision of an earlier call of the same tool loop, if this call made none. ``own_names``: the
    original names of tools that were sent under another.
    """
    raw = _raw(answer, bridge.routing_dict(answer.routing) or routing)
    choice = first_choice(raw) or raw["choices"][0] if raw.get("choices") else {}
    content: JSONObject = choice.get("message") or {}
    calls, invalid = split_calls(
        [AnswerToolCall.from_wire(c, own_names) for c in content.get("tool_calls") or ()],
        choice.get("finish_reason"),
    )
    text, sound = content.get("content"), content.get("audio")
    audio: JSONObject = sound if isinstance(sound, dict) else {}
    message = make_message(
        text or string(audio.get("transcript")) or text,
        bridge.find_reasoning(content),
        calls,
        reasoning_tokens(answer.usage),
    )
    if isinstance(audio.get("data"), str):
        message.blocks.append(AudioBlock(audio=audio["data"].encode()))
    signed = {name: content[name] for name in SIGNED_FIELDS if content.get(name)}
    writer = find_writer(answer.call, answer.routing)
    keep_for_replay(message, signed, writer, bridge.find_reasoning_field(content))
    metadata = answer_metadata(
        raw, answer.call, answer.usage, answer.routing, choice.get("finish_reason")
    )
    if invalid:
        metadata["invalid_tool_calls"] = [call.to_wire() for call in invalid]
    if isinstance(content.get("refusal"), str) and content["refusal"]:
        metadata["refusal"] = content["refusal"]
    return ChatResponse(
        message=message, raw=raw, logprobs=read_logprobs(choice), additional_kwargs=metadata
    )


def text_response(answer: Completion) -> CompletionResponse:
    """The response for a whole text completion."""
    raw = _raw(answer, None)
    choice = first_choice(raw) or raw["choices"][0] if raw.get("choices") else {}
    return CompletionResponse(
        text=choice.get("text") or "",
        raw=raw,
        logprobs=read_logprobs(choice),
        additional_kwargs=answer_metadata(
            raw, answer.call, answer.usage, None, choice.get("finish_reason")
        ),
    )


def as_completion(response: Response) -> CompletionResponse:
    """A chat's response as ``complete()`` returns it. Tool calls stay in it, as in LlamaIndex's own conversion."""
    if isinstance(response, CompletionResponse):
        return response
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs={**response.message.additional_kwargs, **response.additional_kwargs},
    )


def as_chat(response: Response) -> ChatResponse:
    """A text completion's response as ``chat()`` returns it."""
    if isinstance(response, ChatResponse):
        return response
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def _raw(answer: ChatCompletion | Completion, routing: JSONObject | None) -> JSONObject:
    raw = answer.model_dump(mode="json", exclude_unset=True)
    return complete_raw(raw, answer.usage, routing)
