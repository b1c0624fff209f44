"""One object from one answer: how it is asked for, and how it is read, whole or as far as it has come."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import create_flexible_model
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import BasePydanticProgram

from llama_index_lunar import compat
from llama_index_lunar import tools as toolbox
from llama_index_lunar.requests import Requests

if TYPE_CHECKING:
    from llama_index_lunar.llm import LunarLLM

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]
Response = ChatResponse | CompletionResponse


class Way(Protocol[M]):
    """How an object is asked for, and how it is read from the answer."""

    output_cls: type[M]
    is_chat: bool
    """Whether a chat is asked, or a text completion."""

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``llm.chat()``, or of ``llm.complete()``."""

    def fields(self, answer: Response) -> JSONObject:
        """What can be read of the object so far."""

    def read(self, answer: Response) -> M:
        """The object that a whole answer holds. Raises ValueError if it holds none."""


class LunarProgram(BasePydanticProgram[M]):
    """Asks ``llm`` for an object in one ``way``.

    LlamaIndex's own programs forget in streams that a tool is required, and in async calls the system prompt.
    """

    def __init__(self, llm: LunarLLM, prompt: BasePromptTemplate, way: Way[M]) -> None:
        self._llm = llm
        self._prompt = prompt
        self._way = way

    @property
    def output_cls(self) -> type[M]:
        """The class of the object."""
        return self._way.output_cls

    def __call__(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        """The object."""
        arguments = self._way.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.chat if self._way.is_chat else self._llm.complete
        return self._way.read(endpoint(**arguments))

    async def acall(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        """The object."""
        arguments = self._way.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.achat if self._way.is_chat else self._llm.acomplete
        return self._way.read(await endpoint(**arguments))

    def stream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        """The object as it grows."""
        arguments = self._way.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.stream_chat if self._way.is_chat else self._llm.stream_complete
        answers, growing = endpoint(**arguments), _GrowingObject(self._way)

        def read() -> Generator[Any, None, None]:
            with closing(answers):
                for answer in answers:
                    yield growing.update(answer)
            growing.check()

        return read()

    async def astream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        """The object as it grows."""
        arguments = self._way.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.astream_chat if self._way.is_chat else self._llm.astream_complete
        answers, growing = await endpoint(**arguments), _GrowingObject(self._way)

        async def read() -> AsyncGenerator[Any, None]:
            async with aclosing(answers):
                async for answer in answers:
                    yield growing.update(answer)
            growing.check()

        return read()


class _GrowingObject:
    """The object of a stream, as far as it has come: of a class that takes any fields until they fit."""

    def __init__(self, way: Way[Any]) -> None:
        self._way = way
        self._partial_cls = create_flexible_model(way.output_cls)
        self._latest: BaseModel = self._partial_cls()
        self._answer: Response | None = None

    def update(self, answer: Response) -> BaseModel:
        self._answer = answer
        fields = self._way.fields(answer)
        try:
            self._latest = self._way.output_cls.model_validate(fields)
        except Exception:  # noqa: BLE001  # a validator of the caller's may miss what has not come yet
            self._latest = self._partial_cls.model_validate(fields)
        return self._latest

    def check(self) -> None:
        """Raise what is wrong with an answer that is over and of which nothing could be read."""
        if self._answer is not None and not self._latest.model_fields_set:
            self._way.read(self._answer)


class ByTool(Generic[M]):
    """By a tool that takes the object's fields, and that must be called."""

    is_chat = True

    def __init__(self, llm: LunarLLM, output_cls: type[M]) -> None:
        self._llm = llm
        self.output_cls = output_cls

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``chat()``."""
        messages = prompt.format_messages(llm=self._llm, **prompt_args)
        kwargs = {"tool_required": True, **llm_kwargs, "allow_parallel_tool_calls": False}
        return Requests(self._llm).with_tools(
            [get_function_tool(self.output_cls)],
            chat_history=compat.extend_messages(self._llm, messages),
            **kwargs,
        )

    def fields(self, answer: Response) -> JSONObject:
        """The arguments of the call, as far as they have come."""
        calls = self._calls(answer)
        return calls[0].tool_kwargs if calls else {}

    def read(self, answer: Response) -> M:
        """The arguments of the call as an object. Raises ValueError where there is no call."""
        if not self._calls(answer):
            raise ValueError(
                f"{self.output_cls.__name__}: expected a tool call, but the answer was "
                f"{_text_of(answer)[:200]!r}. Of a model, or a service, that knows no tools, "
                "is_function_calling_model=False asks by the prompt"
            )
        return self.output_cls.model_validate(self.fields(answer))

    def _calls(self, answer: Response) -> list[ToolSelection]:
        return toolbox.selections(answer) if isinstance(answer, ChatResponse) else []


class BySchema(Generic[M]):
    """By ``response_format``: the answer's text is the JSON of the object."""

    is_chat = True

    def __init__(self, llm: LunarLLM, output_cls: type[M]) -> None:
        self._llm = llm
        self.output_cls = output_cls

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``chat()``."""
        messages = prompt.format_messages(llm=self._llm, **prompt_args)
        kwargs = {key: value for key, value in llm_kwargs.items() if key != "tool_choice"}
        return {
            **kwargs,
            "messages": compat.extend_messages(self._llm, messages),
            "response_format": response_format(self.output_cls, strict=self._llm.strict),
        }

    def fields(self, answer: Response) -> JSONObject:
        """The text's JSON, as far as it has come."""
        return toolbox.arguments(_text_of(answer))

    def read(self, answer: Response) -> M:
        """The text's JSON as an object. Raises ValueError where it is none."""
        return self.output_cls.model_validate_json(_text_of(answer))


class ByPrompt(Generic[M]):
    """By asking for it: the schema stands in the prompt, the object somewhere in the answer's text."""

    is_chat = True

    def __init__(self, llm: LunarLLM, output_cls: type[M]) -> None:
        self._llm = llm
        self.output_cls = output_cls

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``chat()``."""
        messages = prompt.format_messages(llm=self._llm, **prompt_args)
        messages = compat.extend_messages(self._llm, messages)
        return {**llm_kwargs, "messages": _Parser(self.output_cls).format_messages(messages)}

    def fields(self, answer: Response) -> JSONObject:
        """The first JSON object of the text, as far as it has come."""
        return _fields_in_text(answer)

    def read(self, answer: Response) -> M:
        """The object in the text. Raises ValueError where there is none."""
        return _read_text(self.output_cls, answer)


class ByTextPrompt(Generic[M]):
    """By asking a model that completes texts."""

    is_chat = False

    def __init__(self, llm: LunarLLM, output_cls: type[M]) -> None:
        self._llm = llm
        self.output_cls = output_cls

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``complete()``."""
        text = compat.extend_prompt(self._llm, prompt.format(llm=self._llm, **prompt_args))
        return {**llm_kwargs, "prompt": _Parser(self.output_cls).format(text)}

    def fields(self, answer: Response) -> JSONObject:
        """The first JSON object of the text, as far as it has come."""
        return _fields_in_text(answer)

    def read(self, answer: Response) -> M:
        """The object in the text. Raises ValueError where there is none."""
        return _read_text(self.output_cls, answer)


class _Parser(PydanticOutputParser[M]):
    def format(self, query: str) -> str:
        """As core's, but without doubling each brace of the schema: nobody formats this text again."""
        return f"{query}\n\n{self.get_format_string(escape_json=False)}"


def response_format(output_cls: type[BaseModel], *, strict: bool) -> JSONObject:
    """A model class as the API's ``response_format``."""
    schema = output_cls.model_json_schema()
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(schema.get("title") or output_cls.__name__))[:64]
    described = {
        "name": name,
        "schema": toolbox.close_schema(schema) if strict else schema,
        "strict": strict,
    }
    return {"type": "json_schema", "json_schema": described}


def _fields_in_text(answer: Response) -> JSONObject:
    _, brace, rest = _text_of(answer).partition("{")
    return toolbox.arguments(brace + rest)


def _read_text(output_cls: type[M], answer: Response) -> M:
    result: M = _Parser(output_cls).parse(_text_of(answer))
    return result


def _text_of(answer: Response) -> str:
    return (answer.text if isinstance(answer, CompletionResponse) else answer.message.content) or ""
