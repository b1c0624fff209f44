"""Parses structured output: leniently while it streams, strictly when it has ended.

langchain-core's own parsers mend JSON that is cut off. That is right while an answer streams, and wrong when it has
ended: a list of two that should have ten must not look complete.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import (
    BaseCumulativeTransformOutputParser,
    BaseOutputParser,
    JsonOutputKeyToolsParser,
    JsonOutputParser,
    PydanticOutputParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, SkipValidation, ValidationError

from langchain_lunar.errors import model_error
from langchain_lunar.incomplete_calls import remove_wrong_bracket
from langchain_lunar.tools import Schema, tool_name
from lunar_core import bridge
from lunar_core.errors import LunarError, OutputTruncatedError, ToolChoiceIgnoredError
from lunar_core.types.completions import ChatCompletion, Choice, Message
from lunar_core.types.usage import Usage
from lunar_core.wire.finish_reasons import is_token_limit, is_withheld
from lunar_core.wire.output import is_cut_off, make_truncated_error

_BY_PROMPT = 'with_structured_output(…, method="prompt") asks in the prompt'
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*(?:```|\Z)", re.DOTALL)


class StructuredOutputParser(BaseCumulativeTransformOutputParser[Any]):
    """One of langchain-core's parsers, which gets a finished answer only if that is complete.

    Raises OutputTruncatedError (also an OutputParserException) for output that the token limit cut off,
    ToolChoiceIgnoredError for an answer without the forced tool call, OutputParserException for output that does not
    fit.
    """

    parser: SkipValidation[BaseOutputParser[Any]]
    tool: str | None = None
    """The name of the tool whose arguments are the output; None if the output is the text of the answer."""
    is_prompted: bool = False
    """Whether the prompt asks for the form; else a keyword does, which services may ignore."""
    token_limit: int | None = None
    """The ``max_tokens`` of the model, for error messages."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse the output of an answer; with ``partial``, the part that has come."""
        if not partial:
            return self.parser.parse_result(result) if self._has_output(result[0]) else None
        try:
            return self.parser.parse_result(result, partial=True)
        except OutputParserException:
            return None  # too early: at the beginning of a call, even its name may be missing

    def parse(self, text: str) -> Any:
        """Parse the output in ``text``."""
        return self.parse_result([Generation(text=text)])

    def get_format_instructions(self) -> str:
        """The description of the form for a prompt, in langchain-core's words."""
        return self.parser.get_format_instructions()

    @property
    def _type(self) -> str:
        return "lunar-structured-output"

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        chunks: list[str | BaseMessage] = []
        yield from super()._transform(_keep(input, chunks))
        self._parse_end(chunks)

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        chunks: list[str | BaseMessage] = []
        async for output in super()._atransform(_akeep(input, chunks)):
            yield output
        self._parse_end(chunks)

    def _parse_end(self, chunks: list[str | BaseMessage]) -> None:
        """Parse a streamed answer strictly, now that it has ended."""
        messages = [chunk for chunk in chunks if isinstance(chunk, AIMessage)]
        if messages:
            first, *rest = messages
            # Chunks can add a list, which langchain-core does not type.
            message = cast("AIMessage", first.__add__(rest)) if rest else first
            self.parse_result([ChatGeneration(message=message)])

    def _has_output(self, generation: Generation) -> bool:
        """Whether an answer holds output, and not a call of another tool that it was given instead.

        Raises for incomplete, missing or withheld output. A refusal is left to the wrapped parser.
        """
        if not isinstance(generation, ChatGeneration):
            self._check_text(generation.text, None)
            return True
        message = generation.message
        if not isinstance(message, AIMessage) or is_refused(message):
            return True
        if not (message.tool_calls or message.invalid_tool_calls or message.text):
            _refuse_withheld(message)
        if self.tool is not None:
            _check_call(message, self.tool, self.token_limit)
        elif message.tool_calls and not message.text:
            return False
        else:
            self._check_text(generation.text, message)
        return True

    def _check_text(self, text: str, message: AIMessage | None) -> None:
        finish_reason = message.response_metadata.get("finish_reason") if message else None
        parse_json(text, finish_reason, self.token_limit, message, is_prompted=self.is_prompted)


def make_parser(
    schema: Schema | None, method: str, token_limit: int | None
) -> StructuredOutputParser:
    """The parser for answers in the form of ``schema``: objects of a pydantic class, else dicts."""
    tool = tool_name(schema) if method == "function_calling" and schema is not None else None
    return StructuredOutputParser(
        parser=_core_parser(schema, tool),
        tool=tool,
        is_prompted=method == "prompt",
        token_limit=token_limit,
    )


def _core_parser(schema: Schema | None, tool: str | None) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        if tool is not None:
            return PydanticToolsParser(tools=[schema], first_tool_only=True)
        return PydanticOutputParser[Any](pydantic_object=schema)
    if tool is not None:
        return JsonOutputKeyToolsParser(key_name=tool, first_tool_only=True)
    return JsonOutputParser()


def parse_json(
    text: str,
    finish_reason: str | None,
    token_limit: int | None,
    message: AIMessage | None = None,
    *,
    is_prompted: bool = False,
) -> object:
    """Parse an answer's text, in a code fence or not, as JSON. Strict: nothing is mended."""
    fenced = _FENCED.search(text)
    try:
        return bridge.parse_output(
            fenced.group(1) if fenced else text,
            finish_reason=finish_reason,
            token_limit=token_limit,
        )
    except OutputTruncatedError as error:
        raise _with_answer(error, message) from None
    except ValueError as error:
        model = message.response_metadata.get("model_name") if message else None
        why = f"the answer{f' of {model}' if model else ''} is no JSON: {error}"
        if not is_prompted:
            why += f". For a model or a service that ignores response_format, {_BY_PROMPT}"
        raise OutputParserException(why, llm_output=text) from None


def parse_into(
    schema: Schema, message: AIMessage, answer: ChatCompletion, token_limit: int | None
) -> object:
    """Parse the answer's text into an object of ``schema``. None for a refusal, or without text."""
    text = message.text
    if is_refused(message) or not text:
        return None
    value = parse_json(text, answer.choices[0].finish_reason, token_limit, message)
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise OutputParserException(f"the answer does not fit: {error}", llm_output=text) from None


def check_forced_call(message: AIMessage, tool_choice: object, answer: ChatCompletion) -> None:
    """Raise ToolChoiceIgnoredError if the forced tool call is missing, unless the answer was cut off or refused."""
    is_forced = tool_choice == "required" or (
        isinstance(tool_choice, Mapping) and tool_choice.get("type") == "function"
    )
    has_calls = message.tool_calls or message.invalid_tool_calls
    reason = answer.choices[0].finish_reason
    stopped = is_token_limit(reason) or is_withheld(reason)
    if is_forced and not (has_calls or stopped or is_refused(message)):
        raise _ignored_error(message, answer.model, answer)


def is_refused(message: AIMessage) -> bool:
    """Whether the model refused to answer."""
    return bool(message.additional_kwargs.get("refusal"))


def _refuse_withheld(message: AIMessage) -> None:
    finish_reason = message.response_metadata.get("finish_reason")
    if is_withheld(finish_reason):
        raise OutputParserException(f"the answer was withheld (finish_reason {finish_reason!r})")


def _check_call(message: AIMessage, tool: str, token_limit: int | None) -> None:
    finish_reason = message.response_metadata.get("finish_reason")
    names = [call["name"] for call in message.tool_calls]
    if tool in names:
        return
    if names:
        raise OutputParserException(f"expected a call of {tool}, but the answer calls {names}")
    if message.invalid_tool_calls:
        text = remove_wrong_bracket(message.invalid_tool_calls[0]["args"] or "")
        if is_token_limit(finish_reason) or is_cut_off(text):
            raise _with_answer(_truncation_error(text, finish_reason, token_limit), message)
        why = "the arguments of the tool call are no JSON object"
        raise OutputParserException(f"{why}: {text[:200]!r}", llm_output=text)
    if is_token_limit(finish_reason):
        raise _with_answer(_truncation_error(message.text, finish_reason, token_limit), message)
    raise _ignored_error(message, message.response_metadata.get("model_name"), _answer_of(message))


def _truncation_error(
    text: str, finish_reason: str | None, token_limit: int | None
) -> OutputTruncatedError:
    return make_truncated_error(text, finish_reason=finish_reason, token_limit=token_limit)


def _ignored_error(message: AIMessage, model: str | None, answer: ChatCompletion) -> LunarError:
    error = ToolChoiceIgnoredError(
        f"expected a tool call, but the answer of {model} was {message.text[:200]!r}. For a model or a service "
        f"that knows no tools, {_BY_PROMPT}",
        partial=answer,
    )
    return _with_call(error, answer, message)


def _with_answer(error: OutputTruncatedError, message: AIMessage | None) -> LunarError:
    if message is None:
        return model_error(error)
    answer = _answer_of(message)
    error.partial = answer
    return _with_call(error, answer, message)


def _with_call(error: LunarError, answer: ChatCompletion, message: AIMessage) -> LunarError:
    error.attempts = answer.call.attempts
    error.call_id = answer.call.call_id or message.response_metadata.get("call_id")
    return model_error(error)


def _answer_of(message: AIMessage) -> ChatCompletion:
    """Rebuild the core's answer from a message."""
    metadata, tokens = message.response_metadata, message.usage_metadata
    usage: dict[str, Any] = {
        name: metadata[name] for name in Usage.model_fields.keys() & metadata.keys()
    }
    if tokens is not None:
        usage["prompt_tokens"] = tokens["input_tokens"]
        usage["completion_tokens"] = tokens["output_tokens"]
        usage["total_tokens"] = tokens["total_tokens"]
    return ChatCompletion(
        id=metadata.get("id"),
        model=metadata.get("model_name"),
        choices=[
            Choice(
                message=Message(content=message.text),
                finish_reason=metadata.get("finish_reason"),
            )
        ],
        usage=Usage(**usage) if usage else None,
    )


def _keep(items: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    for item in items:
        kept.append(item)
        yield item


async def _akeep(items: AsyncIterator[Any], kept: list[Any]) -> AsyncIterator[Any]:
    async for item in items:
        kept.append(item)
        yield item
