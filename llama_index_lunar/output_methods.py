"""The ways to ask for an object: by a tool, by a schema, or in the prompt; and how each reads it from an answer."""

from __future__ import annotations

import json
from typing import Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.prompts import BasePromptTemplate
from pydantic import ValidationError

from llama_index_lunar import compat
from llama_index_lunar import tools as toolbox
from llama_index_lunar.errors import SHOWN, find_refusal, find_truncation, make_ignored_error
from llama_index_lunar.messages import tool_calls_of
from llama_index_lunar.requests import Requests
from lunar_core import bridge
from lunar_core.errors import OutputTruncatedError
from lunar_core.wire.tool_names import fit_name

M = TypeVar("M", bound=BaseModel)
JSONObject = dict[str, Any]
Response = ChatResponse | CompletionResponse


class OutputMethod(Protocol[M]):
    """How an object is requested, and how it is read from the answer."""

    output_cls: type[M]
    is_chat: bool
    """Whether the call is a chat; else it is a text completion."""

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``llm.chat()``, or of ``llm.complete()``."""

    def text(self, answer: Response) -> str:
        """The JSON of the object, as much as has come."""

    def read(self, answer: Response, token_limit: int | None) -> M:
        """Read the object from a finished answer.

        Raises ValueError if it holds none, and OutputTruncatedError (a ValueError here) if it is incomplete.
        ``token_limit``: the ``max_tokens`` of the request, if it had one.
        """


class ByTool(Generic[M]):
    """Through a tool that takes the object's fields and must be called."""

    is_chat = True

    def __init__(self, llm: LLM, output_cls: type[M], requests: Requests) -> None:
        self._llm = llm
        self._requests = requests
        self.output_cls = output_cls

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``chat()``."""
        messages = prompt.format_messages(llm=self._llm, **prompt_args)
        kwargs = {"tool_required": True, **llm_kwargs, "allow_parallel_tool_calls": False}
        return self._requests.with_tools(
            [get_function_tool(self.output_cls)],
            chat_history=compat.extend_messages(self._llm, messages),
            **kwargs,
        )

    def text(self, answer: Response) -> str:
        """The arguments of the call, as much as has come."""
        calls = tool_calls_of(answer.message) if isinstance(answer, ChatResponse) else []
        return calls[0]["function"]["arguments"] if calls and "function" in calls[0] else ""

    def read(self, answer: Response, token_limit: int | None) -> M:
        """The arguments of the call as an object. Raises ValueError if the call is missing or incomplete."""
        text = self.text(answer)
        if text:
            return _validate(self.output_cls, text, answer, token_limit)
        invalid = answer.additional_kwargs.get("invalid_tool_calls") or ()
        output = (
            invalid[0].get("function", {}).get("arguments", "") if invalid else _text_of(answer)
        )
        error = find_truncation(answer, output, token_limit) or find_refusal(answer)
        if error is None and invalid:
            error = ValueError(f"{self.output_cls.__name__}: no JSON object: {output[:SHOWN]!r}")
        raise error or make_ignored_error(answer, [self.output_cls.__name__])


class BySchema(Generic[M]):
    """Through ``response_format``: the answer's text is the object's JSON."""

    is_chat = True

    def __init__(self, llm: LLM, output_cls: type[M], *, strict: bool) -> None:
        self._llm = llm
        self._strict = strict
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
            "response_format": response_format(self.output_cls, strict=self._strict),
        }

    def text(self, answer: Response) -> str:
        """The text, as much as has come."""
        return _text_of(answer)

    def read(self, answer: Response, token_limit: int | None) -> M:
        """The text's JSON as an object. Raises ValueError if it is no object or incomplete."""
        if error := find_refusal(answer):
            raise error
        return _validate(self.output_cls, _text_of(answer), answer, token_limit)


class ByPrompt(Generic[M]):
    """Through the prompt: it holds the schema, and the answer's text holds the object somewhere.

    ``is_chat``: whether the model chats; else it completes texts.
    """

    def __init__(self, llm: LLM, output_cls: type[M], *, is_chat: bool) -> None:
        self._llm = llm
        self.output_cls = output_cls
        self.is_chat = is_chat

    def arguments(
        self, prompt: BasePromptTemplate, prompt_args: JSONObject, llm_kwargs: JSONObject
    ) -> JSONObject:
        """The arguments of ``chat()``, or of ``complete()``."""
        parser = _Parser(self.output_cls)
        if self.is_chat:
            messages = prompt.format_messages(llm=self._llm, **prompt_args)
            messages = compat.extend_messages(self._llm, messages)
            return {**llm_kwargs, "messages": parser.format_messages(messages)}
        text = compat.extend_prompt(self._llm, prompt.format(llm=self._llm, **prompt_args))
        return {**llm_kwargs, "prompt": parser.format(text)}

    def text(self, answer: Response) -> str:
        """The text from its first brace, as much as has come."""
        return _from_brace(answer)

    def read(self, answer: Response, token_limit: int | None) -> M:
        """The object in the text. Raises ValueError if there is none, or if it is incomplete."""
        try:
            result: M = _Parser(self.output_cls).parse(_text_of(answer))
        except ValueError as error:
            unfinished = find_truncation(answer, _from_brace(answer), token_limit)
            raise unfinished or find_refusal(answer) or error from None
        return result


class _Parser(PydanticOutputParser[M]):
    def format(self, query: str) -> str:
        """As LlamaIndex's, but without doubled braces in the schema: nobody formats this text again."""
        return f"{query}\n\n{self.get_format_string(escape_json=False)}"


def response_format(output_cls: type[BaseModel], *, strict: bool) -> JSONObject:
    """The API's ``response_format`` for a model class."""
    schema = output_cls.model_json_schema()
    described = {
        "name": fit_name(str(schema.get("title") or output_cls.__name__)),
        "schema": toolbox.close_schema(schema) if strict else schema,
        "strict": strict,
    }
    return {"type": "json_schema", "json_schema": described}


def _validate(output_cls: type[M], text: str, answer: Response, token_limit: int | None) -> M:
    """Parse ``text`` strictly into an object. An incomplete text raises that, whatever pydantic says of it."""
    try:
        value = bridge.parse_output(text)
    except (ValueError, OutputTruncatedError):
        error = find_truncation(answer, text, token_limit)
        raise error or ValueError(f"{output_cls.__name__}: no JSON: {text[:SHOWN]!r}") from None
    try:
        return output_cls.model_validate_json(json.dumps(value))
    except ValidationError as fault:
        truncated = find_truncation(answer, text, token_limit)
        if truncated is None:
            raise
        raise truncated from fault


def _from_brace(answer: Response) -> str:
    _, brace, rest = _text_of(answer).partition("{")
    return brace + rest


def _text_of(answer: Response) -> str:
    return (answer.text if isinstance(answer, CompletionResponse) else answer.message.content) or ""
