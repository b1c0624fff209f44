"""Programs that get one object from one answer, whole or growing while it streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM
from llama_index.core.program.utils import create_flexible_model
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import BasePydanticProgram

from llama_index_lunar import tools as toolbox
from llama_index_lunar.output_methods import OutputMethod, Response

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]


class LunarProgram(BasePydanticProgram[M]):
    """Asks ``llm`` for an object by one ``method``. ``max_tokens``: the LLM's own limit, if it has one.

    LlamaIndex's own programs lose the required tool in streams, and the system prompt in async calls.
    """

    def __init__(
        self, llm: LLM, prompt: BasePromptTemplate, method: OutputMethod[M], max_tokens: int | None
    ) -> None:
        self._llm = llm
        self._prompt = prompt
        self._method = method
        self._max_tokens = max_tokens

    @property
    def output_cls(self) -> type[M]:
        """The class of the object."""
        return self._method.output_cls

    def __call__(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        """Ask for the object and return it. Raises as ``OutputMethod.read`` does."""
        arguments = self._method.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.chat if self._method.is_chat else self._llm.complete
        return self._method.read(endpoint(**arguments), self._token_limit(llm_kwargs))

    async def acall(self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any) -> M:
        """Ask for the object and return it. Raises as ``OutputMethod.read`` does."""
        arguments = self._method.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.achat if self._method.is_chat else self._llm.acomplete
        return self._method.read(await endpoint(**arguments), self._token_limit(llm_kwargs))

    def stream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        """Ask for the object and yield it as it grows. Raises as ``OutputMethod.read`` does, at the end."""
        arguments = self._method.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = self._llm.stream_chat if self._method.is_chat else self._llm.stream_complete
        growing = _GrowingObject(self._method, self._token_limit(llm_kwargs))
        answers = endpoint(**arguments)

        def read() -> Generator[Any, None, None]:
            with closing(answers):
                for answer in answers:
                    yield growing.update(answer)
            growing.check()

        return read()

    async def astream_call(
        self, *args: Any, llm_kwargs: JSONObject | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        """Ask for the object and yield it as it grows. Raises as ``OutputMethod.read`` does, at the end."""
        arguments = self._method.arguments(self._prompt, kwargs, llm_kwargs or {})
        endpoint: Any = (
            self._llm.astream_chat if self._method.is_chat else self._llm.astream_complete
        )
        growing = _GrowingObject(self._method, self._token_limit(llm_kwargs))
        answers = await endpoint(**arguments)

        async def read() -> AsyncGenerator[Any, None]:
            async with aclosing(answers):
                async for answer in answers:
                    yield growing.update(answer)
            growing.check()

        return read()

    def _token_limit(self, llm_kwargs: JSONObject | None) -> int | None:
        limit = (llm_kwargs or {}).get("max_tokens", self._max_tokens)
        return limit if isinstance(limit, int) else None


class _GrowingObject:
    """The object of a stream so far: of a class that takes any fields, until it is complete and fits."""

    def __init__(self, method: OutputMethod[Any], token_limit: int | None) -> None:
        self._method = method
        self._token_limit = token_limit
        self._partial_cls = create_flexible_model(method.output_cls)
        self._latest: BaseModel = self._partial_cls()
        self._answer: Response | None = None

    def update(self, answer: Response) -> BaseModel:
        """The object after one more response."""
        self._answer = answer
        fields, is_whole = toolbox.read_object(self._method.text(answer))
        if not fields and self._latest.model_fields_set:
            return self._latest  # the last response leaves an incomplete object out
        self._latest = (
            self._validate(fields) if is_whole else self._partial_cls.model_validate(fields)
        )
        return self._latest

    def check(self) -> None:
        """Read the finished answer strictly. Raises as ``OutputMethod.read`` does."""
        if self._answer is not None:
            self._method.read(self._answer, self._token_limit)

    def _validate(self, fields: JSONObject) -> BaseModel:
        try:
            result: BaseModel = self._method.output_cls.model_validate(fields)
        except Exception:  # noqa: BLE001  # a validator of the caller's may raise anything: ``check`` raises it at the end
            return self._partial_cls.model_validate(fields)
        return result
