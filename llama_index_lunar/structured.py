"""Structured output that the model is really held to, whole and in streams."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import get_program_for_llm, process_streaming_objects
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import BasePydanticProgram, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher

from llama_index_lunar.base import LunarSettings
from llama_index_lunar.tools import closed

dispatcher = get_dispatcher(__name__)

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]


class LunarStructured(LunarSettings):
    """``structured_predict`` and its kin.

    By a tool that must be called; with ``should_use_structured_outputs=True`` by the API's ``response_format``;
    with ``is_function_calling_model=False`` by LlamaIndex's prompts, as for any other LLM.
    """

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """Fill ``output_cls`` from the answer. Raises ValueError or TypeError for one that doesn't fit."""
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program, kwargs = self._program(output_cls, prompt, llm_kwargs)
        return _ended(program(llm_kwargs=kwargs, **prompt_args), output_cls)

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """The same for asyncio."""
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program, kwargs = self._program(output_cls, prompt, llm_kwargs)
        return _ended(await program.acall(llm_kwargs=kwargs, **prompt_args), output_cls)

    def _structured_stream_call(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        program, kwargs = self._program(output_cls, prompt, llm_kwargs)
        return program.stream_call(llm_kwargs=kwargs, **prompt_args)

    async def _structured_astream_call(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        program, kwargs = self._program(output_cls, prompt, llm_kwargs)
        return await program.astream_call(llm_kwargs=kwargs, **prompt_args)

    def _program(
        self, output_cls: type[M], prompt: PromptTemplate, llm_kwargs: JSONObject | None
    ) -> tuple[BasePydanticProgram[M], JSONObject]:
        """How to get an ``output_cls``, and the arguments of the calls. The caller's own stay as they are."""
        kwargs, mode = dict(llm_kwargs or {}), self.pydantic_program_mode
        by_default = mode == PydanticProgramMode.DEFAULT
        if by_default and self.should_use_structured_outputs:
            return _BySchema(output_cls, self, prompt), kwargs
        if mode == PydanticProgramMode.FUNCTION or (by_default and self.is_function_calling_model):
            return _ByTool(output_cls, self, prompt), kwargs
        if self.is_chat_model and (mode == PydanticProgramMode.LLM or by_default):
            return _ByPrompt(output_cls, self, prompt), kwargs
        # Text programs write their parser into the prompt: into a copy of it, then.
        return get_program_for_llm(
            output_cls, prompt.model_copy(), self, pydantic_program_mode=mode
        ), kwargs


class _Program(BasePydanticProgram[M]):
    """One object from one chat.

    LlamaIndex's own programs forget in streams that a tool is required, and in async calls the system prompt.
    """

    def __init__(self, output_cls: type[M], llm: LunarSettings, prompt: BasePromptTemplate) -> None:
        self._output_cls = output_cls
        self._llm = llm
        self._prompt = prompt

    @property
    def output_cls(self) -> type[M]:
        return self._output_cls

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        """The arguments of the chat."""
        raise NotImplementedError

    def _whole(self, answer: ChatResponse) -> M:
        """The object that a whole answer holds. Raises ValueError if it holds none."""
        raise NotImplementedError

    def _partial(self, answer: ChatResponse, latest: Any) -> Any:
        """What can be told of it so far; not more than ``latest``, perhaps."""
        return process_streaming_objects(
            answer,
            self._output_cls,
            cur_objects=None if latest is None else [latest],
            llm=self._llm,
        )

    def _arguments(self, llm_kwargs: JSONObject | None, prompt_args: JSONObject) -> JSONObject:
        messages = self._prompt.format_messages(llm=self._llm, **prompt_args)
        return self._asked(self._llm._extend_messages(messages), llm_kwargs or {})

    def __call__(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        return self._whole(self._llm.chat(**self._arguments(llm_kwargs, kwargs)))

    async def acall(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        return self._whole(await self._llm.achat(**self._arguments(llm_kwargs, kwargs)))

    def stream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        latest = None
        for answer in self._llm.stream_chat(**self._arguments(llm_kwargs, kwargs)):
            latest = self._partial(answer, latest)
            yield latest

    async def astream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        answers = await self._llm.astream_chat(**self._arguments(llm_kwargs, kwargs))

        async def objects() -> AsyncGenerator[Any, None]:
            latest = None
            async for answer in answers:
                latest = self._partial(answer, latest)
                yield latest

        return objects()


class _ByTool(_Program[M]):
    """By a tool that takes the object's fields, and that must be called."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        forced = {"tool_required": True, **kwargs, "allow_parallel_tool_calls": False}
        tool = get_function_tool(self._output_cls)
        return self._llm._prepare_chat_with_tools([tool], chat_history=messages, **forced)

    def _whole(self, answer: ChatResponse) -> M:
        call = self._llm.get_tool_calls_from_response(answer)[0]
        return self._output_cls.model_validate(call.tool_kwargs)


class _BySchema(_Program[M]):
    """By ``response_format``: the answer's text is the JSON of the object."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        told = {key: value for key, value in kwargs.items() if key != "tool_choice"}
        schema = response_format(self._output_cls, self._llm.strict)
        return {**told, "messages": messages, "response_format": schema}

    def _whole(self, answer: ChatResponse) -> M:
        return self._output_cls.model_validate_json(answer.message.content or "")


class _ByPrompt(_Program[M]):
    """By asking for it: the schema stands in the prompt, the object somewhere in the answer's text."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        return {**kwargs, "messages": _Parser(self._output_cls).format_messages(messages)}

    def _whole(self, answer: ChatResponse) -> M:
        found: M = _Parser(self._output_cls).parse(answer.message.content or "")
        return found


class _Parser(PydanticOutputParser[M]):
    def format(self, query: str) -> str:
        """As core's, but without doubling each brace of the schema: nobody formats this text again."""
        return f"{query}\n\n{self.get_format_string(escape_json=False)}"


def response_format(output_cls: type[BaseModel], strict: bool) -> JSONObject:
    """A model class as the API's ``response_format``."""
    schema = output_cls.model_json_schema()
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(schema.get("title") or output_cls.__name__))[:64]
    described = {"name": name, "schema": closed(schema) if strict else schema, "strict": strict}
    return {"type": "json_schema", "json_schema": described}


def _started(
    output_cls: type[BaseModel], prompt: PromptTemplate, arguments: JSONObject
) -> LLMStructuredPredictStartEvent:
    return LLMStructuredPredictStartEvent(
        output_cls=output_cls, template=prompt, template_args=arguments
    )


def _ended(result: object, output_cls: type[M]) -> M:
    if not isinstance(result, output_cls):
        raise TypeError(
            f"structured_predict: expected a {output_cls.__name__}, but the answer was {result!r}"
        )
    dispatcher.event(LLMStructuredPredictEndEvent(output=result))
    return result
