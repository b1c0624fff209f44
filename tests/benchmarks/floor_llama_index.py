"""An LLM with ready answers, to measure LlamaIndex's own work, including its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback


def make_response(text: str, delta: str = "") -> ChatResponse:
    return ChatResponse(message=ChatMessage(text, role="assistant"), delta=delta, raw={})


class Fake(CustomLLM):
    words: int

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    @llm_chat_callback()
    def chat(self, *args: Any, **kwargs: Any) -> ChatResponse:
        return make_response("Hello.")

    @llm_chat_callback()
    async def achat(self, *args: Any, **kwargs: Any) -> ChatResponse:
        return make_response("Hello.")

    @llm_chat_callback()
    def stream_chat(self, *args: Any, **kwargs: Any) -> Iterator[ChatResponse]:
        return self._stream()

    def _stream(self) -> Iterator[ChatResponse]:
        text = ""
        for _ in range(self.words):
            text += " word"  # each response has the whole text so far
            yield make_response(text, " word")

    @llm_chat_callback()
    async def astream_chat(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatResponse]:
        return self._astream()

    async def _astream(self) -> AsyncIterator[ChatResponse]:
        for response in self._stream():
            yield response

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        """Not measured."""

    def stream_complete(self, *args: Any, **kwargs: Any) -> Any:
        """Not measured."""
