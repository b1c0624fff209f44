"""Structured output that the model is held to, whole and in streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import get_program_for_llm
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import BasePydanticProgram, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher

from llama_index_lunar.attribution import attribute_calls
from llama_index_lunar.endpoints import aclosing_stream, chat_events, close_at_end, closing_stream
from llama_index_lunar.output_methods import ByPrompt, BySchema, ByTool, OutputMethod
from llama_index_lunar.programs import LunarProgram
from llama_index_lunar.requests import Requests

dispatcher = get_dispatcher(__name__)

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]


class StructuredOutput:
    """Gets objects from an LLM's answers.

    By default through a tool that must be called; with ``should_use_structured_outputs=True`` through
    ``response_format``; with ``is_function_calling_model=False`` through the prompt.
    """

    def __init__(self, llm: LLM, requests: Requests) -> None:
        self._llm = llm
        self._requests = requests

    def predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None,
        prompt_args: JSONObject,
    ) -> M:
        """Ask for an ``output_cls`` and return it. Raises ValueError or TypeError for an answer that does not fit."""
        _emit_start(output_cls, prompt, prompt_args)
        program = self._make_program(output_cls, prompt)
        result = program(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        return _emit_end(result, output_cls)

    async def apredict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None,
        prompt_args: JSONObject,
    ) -> M:
        """Ask for an ``output_cls`` and return it. Raises ValueError or TypeError for an answer that does not fit."""
        _emit_start(output_cls, prompt, prompt_args)
        program = self._make_program(output_cls, prompt)
        result = await program.acall(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        return _emit_end(result, output_cls)

    def stream(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None,
        prompt_args: JSONObject,
    ) -> Generator[Any, None, None]:
        """Yield objects with more and more fields. The request is sent at once, not at the first read."""
        _emit_start(output_cls, prompt, prompt_args)
        program = self._make_program(output_cls, prompt)
        objects = program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        def read() -> Generator[Any, None, None]:
            latest = None
            with closing(objects):
                for latest in objects:
                    dispatcher.event(LLMStructuredPredictInProgressEvent(output=latest))
                    yield latest
            dispatcher.event(LLMStructuredPredictEndEvent(output=latest))

        return read()

    async def astream(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None,
        prompt_args: JSONObject,
    ) -> AsyncGenerator[Any, None]:
        """Yield objects with more and more fields. The request is sent at once, not at the first read."""
        _emit_start(output_cls, prompt, prompt_args)
        program = self._make_program(output_cls, prompt)
        objects = await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        async def read() -> AsyncGenerator[Any, None]:
            latest = None
            async with aclosing(objects):
                async for latest in objects:
                    dispatcher.event(LLMStructuredPredictInProgressEvent(output=latest))
                    yield latest
            dispatcher.event(LLMStructuredPredictEndEvent(output=latest))

        return read()

    def _make_program(
        self, output_cls: type[M], prompt: BasePromptTemplate
    ) -> BasePydanticProgram[M]:
        """The program for an ``output_cls``, as the LLM's fields say."""
        llm, fields = self._llm, self._requests.fields
        mode = fields.pydantic_program_mode
        is_default = mode == PydanticProgramMode.DEFAULT
        method: OutputMethod[M]
        if is_default and fields.should_use_structured_outputs:
            method = BySchema(llm, output_cls, strict=fields.strict)
        elif mode == PydanticProgramMode.FUNCTION or (
            is_default and fields.is_function_calling_model
        ):
            method = ByTool(llm, output_cls, self._requests)
        elif mode == PydanticProgramMode.LLM or is_default:
            method = ByPrompt(llm, output_cls, is_chat=fields.is_chat_model)
        else:  # A copy, since other packages' programs may change the prompt.
            return get_program_for_llm(
                output_cls, prompt.model_copy(), llm, pydantic_program_mode=mode
            )
        return LunarProgram(llm, prompt, method, fields.max_tokens)


class LunarStructuredLLM(StructuredLLM):
    """LlamaIndex's StructuredLLM, with two differences that keep costs together.

    Its streams send their request when they are called, not at the first read. And the cost handlers of its callback
    manager count the calls that it makes.
    """

    @chat_events
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask for an object, and return it as a response."""
        with attribute_calls(self.callback_manager):
            result = self.llm.structured_predict(**self._arguments(messages, kwargs))
        return _as_response(result)

    @chat_events
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask for an object, and return it as a response."""
        with attribute_calls(self.callback_manager):
            result = await self.llm.astructured_predict(**self._arguments(messages, kwargs))
        return _as_response(result)

    @closing_stream
    @chat_events
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask for an object, and yield it as it comes."""
        with attribute_calls(self.callback_manager):
            objects = self.llm.stream_structured_predict(**self._arguments(messages, kwargs))
        close_at_end(objects)
        return (_as_response(result) for result in objects)

    @aclosing_stream
    @chat_events
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Ask for an object, and yield it as it comes."""
        with attribute_calls(self.callback_manager):
            objects = await self.llm.astream_structured_predict(**self._arguments(messages, kwargs))
        close_at_end(objects)
        return (_as_response(result) async for result in objects)

    def _arguments(self, messages: Sequence[ChatMessage], kwargs: JSONObject) -> JSONObject:
        prompt = ChatPromptTemplate(message_templates=list(messages))
        return {"output_cls": self.output_cls, "prompt": prompt, "llm_kwargs": kwargs}


def _as_response(result: Any) -> ChatResponse:  # an object of any class, or of a partial one
    message = ChatMessage(result.model_dump_json(), role=MessageRole.ASSISTANT)
    return ChatResponse(message=message, raw=result)


def _emit_start(
    output_cls: type[BaseModel], prompt: BasePromptTemplate, prompt_args: JSONObject
) -> None:
    dispatcher.event(
        LLMStructuredPredictStartEvent(
            output_cls=output_cls, template=prompt, template_args=prompt_args
        )
    )


def _emit_end(result: object, output_cls: type[M]) -> M:
    if not isinstance(result, output_cls):
        raise TypeError(
            f"structured_predict: expected a {output_cls.__name__}, but the answer was {result!r}"
        )
    dispatcher.event(LLMStructuredPredictEndEvent(output=result))
    return result
