"""Structured output that the model is really held to, whole and in streams."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel, SerializeAsAny
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import create_flexible_model, get_program_for_llm
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import BasePydanticProgram, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher

from llama_index_lunar import tools as toolbox
from llama_index_lunar.calls import LunarCalls
from llama_index_lunar.endpoints import aclosing_method, chat_events, closing, opened
from llama_index_lunar.reporting import attributed

dispatcher = get_dispatcher(__name__)

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]
Answer = ChatResponse | CompletionResponse


class LunarStructured(LunarCalls):
    """``structured_predict`` and its kin.

    By a tool that must be called; with ``should_use_structured_outputs=True`` by the API's ``response_format``;
    with ``is_function_calling_model=False`` by asking for it in the prompt.
    """

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """Fill ``output_cls`` from the answer. Raises ValueError or TypeError for one that doesn't fit."""
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program = self._program(output_cls, prompt)
        return _ended(program(llm_kwargs=dict(llm_kwargs or {}), **prompt_args), output_cls)

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """The same for asyncio."""
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program = self._program(output_cls, prompt)
        found = await program.acall(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        return _ended(found, output_cls)

    def stream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Fill ``output_cls`` as the answer comes: objects with more and more fields, at last a whole one.

        The request is made at once, not at the first read. Raises ValueError at the end of an answer of which
        nothing could be read.
        """
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program = self._program(output_cls, prompt)
        objects = program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        def told() -> Generator[Any, None, None]:
            latest = None
            for latest in objects:
                dispatcher.event(LLMStructuredPredictInProgressEvent(output=latest))
                yield latest
            dispatcher.event(LLMStructuredPredictEndEvent(output=latest))

        return told()

    async def astream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """The same for asyncio."""
        dispatcher.event(_started(output_cls, prompt, prompt_args))
        program = self._program(output_cls, prompt)
        objects = await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        async def told() -> AsyncGenerator[Any, None]:
            latest = None
            async with aclosing(objects):
                async for latest in objects:
                    dispatcher.event(LLMStructuredPredictInProgressEvent(output=latest))
                    yield latest
            dispatcher.event(LLMStructuredPredictEndEvent(output=latest))

        return told()

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """An LLM whose every answer is an ``output_cls``, in JSON and as ``raw``."""
        return LunarStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def _program(self, output_cls: type[M], prompt: BasePromptTemplate) -> BasePydanticProgram[M]:
        """How to get an ``output_cls``."""
        mode = self.pydantic_program_mode
        by_default = mode == PydanticProgramMode.DEFAULT
        if by_default and self.should_use_structured_outputs:
            return _BySchema(output_cls, self, prompt)
        if mode == PydanticProgramMode.FUNCTION or (by_default and self.is_function_calling_model):
            return _ByTool(output_cls, self, prompt)
        if mode == PydanticProgramMode.LLM or by_default:
            return (_ByPrompt if self.is_chat_model else _ByText)(output_cls, self, prompt)
        # Other packages' programs may write into the prompt: into a copy of it, then.
        return get_program_for_llm(
            output_cls, prompt.model_copy(), self, pydantic_program_mode=mode
        )


class LunarStructuredLLM(StructuredLLM):
    """LlamaIndex's own, but for two things that keep costs together.

    Its streams ask when they are called, as all others do, not at the first read; and what its callback manager's
    cost handlers hear of includes the calls that it makes.
    """

    llm: SerializeAsAny[LunarStructured]

    @chat_events
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask for an object."""
        with attributed(self.callback_manager):
            return _as_answer(self.llm.structured_predict(**self._asked(messages, kwargs)))

    @chat_events
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The same for asyncio."""
        with attributed(self.callback_manager):
            found = await self.llm.astructured_predict(**self._asked(messages, kwargs))
        return _as_answer(found)

    @closing
    @chat_events
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and read the object as it comes."""
        with attributed(self.callback_manager):
            objects = self.llm.stream_structured_predict(**self._asked(messages, kwargs))
        opened(objects)
        return (_as_answer(each) for each in objects)

    @aclosing_method
    @chat_events
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """The same for asyncio."""
        with attributed(self.callback_manager):
            objects = await self.llm.astream_structured_predict(**self._asked(messages, kwargs))
        opened(objects)
        return (_as_answer(each) async for each in objects)

    def _asked(self, messages: Sequence[ChatMessage], kwargs: JSONObject) -> JSONObject:
        prompt = ChatPromptTemplate(message_templates=list(messages))
        return {"output_cls": self.output_cls, "prompt": prompt, "llm_kwargs": kwargs}


def _as_answer(found: BaseModel) -> ChatResponse:
    message = ChatMessage(found.model_dump_json(), role=MessageRole.ASSISTANT)
    return ChatResponse(message=message, raw=found)


class _Program(BasePydanticProgram[M]):
    """One object from one answer.

    LlamaIndex's own programs forget in streams that a tool is required, and in async calls the system prompt.
    """

    def __init__(
        self, output_cls: type[M], llm: LunarStructured, prompt: BasePromptTemplate
    ) -> None:
        self._output_cls = output_cls
        self._llm = llm
        self._prompt = prompt

    @property
    def output_cls(self) -> type[M]:
        return self._output_cls

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        """The arguments of the chat."""
        raise NotImplementedError

    def _whole(self, answer: Answer) -> M:
        """The object that a whole answer holds. Raises ValueError if it holds none."""
        raise NotImplementedError

    def _fields(self, answer: Answer) -> JSONObject:
        """What can be read of the object so far."""
        return toolbox.arguments(_text_of(answer))

    def _ask(self, endpoint: str, llm_kwargs: JSONObject | None, prompt_args: JSONObject) -> Any:
        """Call one of the LLM's four endpoints for chats, or the one for texts that belongs to it."""
        messages = self._prompt.format_messages(llm=self._llm, **prompt_args)
        asked = self._asked(self._llm._extend_messages(messages), llm_kwargs or {})
        return getattr(self._llm, endpoint)(**asked)

    def __call__(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        return self._whole(self._ask("chat", llm_kwargs, kwargs))

    async def acall(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        return self._whole(await self._ask("achat", llm_kwargs, kwargs))

    def stream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        answers, growing = self._ask("stream_chat", llm_kwargs, kwargs), _Growing(self)

        def objects() -> Generator[Any, None, None]:
            for answer in answers:
                yield growing.after(answer)
            growing.check()

        return objects()

    async def astream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        answers, growing = await self._ask("astream_chat", llm_kwargs, kwargs), _Growing(self)

        async def objects() -> AsyncGenerator[Any, None]:
            async with aclosing(answers):
                async for answer in answers:
                    yield growing.after(answer)
            growing.check()

        return objects()


class _Growing:
    """The object of a stream, as far as it has come: of a class that takes any fields until they fit."""

    def __init__(self, program: _Program[Any]) -> None:
        self._program = program
        self._partial_cls = create_flexible_model(program.output_cls)
        self._latest: BaseModel = self._partial_cls()
        self._answer: Answer | None = None

    def after(self, answer: Answer) -> BaseModel:
        self._answer = answer
        fields = self._program._fields(answer)
        try:
            self._latest = self._program.output_cls.model_validate(fields)
        except Exception:  # noqa: BLE001  # a validator of the caller's may miss what has not come yet
            self._latest = self._partial_cls.model_validate(fields)
        return self._latest

    def check(self) -> None:
        """Say what is wrong with an answer that is over and of which nothing could be read."""
        if self._answer is not None and not self._latest.model_fields_set:
            self._program._whole(self._answer)


class _ByTool(_Program[M]):
    """By a tool that takes the object's fields, and that must be called."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        forced = {"tool_required": True, **kwargs, "allow_parallel_tool_calls": False}
        tool = get_function_tool(self._output_cls)
        return self._llm._prepare_chat_with_tools([tool], chat_history=messages, **forced)

    def _calls(self, answer: Answer) -> list[ToolSelection]:
        return toolbox.selections(answer) if isinstance(answer, ChatResponse) else []

    def _fields(self, answer: Answer) -> JSONObject:
        calls = self._calls(answer)
        return calls[0].tool_kwargs if calls else {}

    def _whole(self, answer: Answer) -> M:
        if not self._calls(answer):
            raise ValueError(
                f"{self._output_cls.__name__}: expected a tool call, but the answer was "
                f"{_text_of(answer)[:200]!r}. Of a model, or a service, that knows no tools, "
                "is_function_calling_model=False asks by the prompt"
            )
        return self._output_cls.model_validate(self._fields(answer))


class _BySchema(_Program[M]):
    """By ``response_format``: the answer's text is the JSON of the object."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        told = {key: value for key, value in kwargs.items() if key != "tool_choice"}
        schema = response_format(self._output_cls, self._llm.strict)
        return {**told, "messages": messages, "response_format": schema}

    def _whole(self, answer: Answer) -> M:
        return self._output_cls.model_validate_json(_text_of(answer))


class _ByPrompt(_Program[M]):
    """By asking for it: the schema stands in the prompt, the object somewhere in the answer's text."""

    def _asked(self, messages: list[ChatMessage], kwargs: JSONObject) -> JSONObject:
        return {**kwargs, "messages": _Parser(self._output_cls).format_messages(messages)}

    def _fields(self, answer: Answer) -> JSONObject:
        _, brace, rest = _text_of(answer).partition("{")
        return toolbox.arguments(brace + rest)

    def _whole(self, answer: Answer) -> M:
        found: M = _Parser(self._output_cls).parse(_text_of(answer))
        return found


class _ByText(_ByPrompt[M]):
    """The same of a model that completes texts."""

    def _ask(self, endpoint: str, llm_kwargs: JSONObject | None, prompt_args: JSONObject) -> Any:
        prompt = self._prompt.format(llm=self._llm, **prompt_args)
        text = _Parser(self._output_cls).format(self._llm._extend_prompt(prompt))
        complete = getattr(self._llm, endpoint.replace("chat", "complete"))
        return complete(text, **(llm_kwargs or {}))


class _Parser(PydanticOutputParser[M]):
    def format(self, query: str) -> str:
        """As core's, but without doubling each brace of the schema: nobody formats this text again."""
        return f"{query}\n\n{self.get_format_string(escape_json=False)}"


def response_format(output_cls: type[BaseModel], strict: bool) -> JSONObject:
    """A model class as the API's ``response_format``."""
    schema = output_cls.model_json_schema()
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(schema.get("title") or output_cls.__name__))[:64]
    described = {
        "name": name,
        "schema": toolbox.closed(schema) if strict else schema,
        "strict": strict,
    }
    return {"type": "json_schema", "json_schema": described}


def _text_of(answer: Answer) -> str:
    return (answer.text if isinstance(answer, CompletionResponse) else answer.message.content) or ""


def _started(
    output_cls: type[BaseModel], prompt: BasePromptTemplate, arguments: JSONObject
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
